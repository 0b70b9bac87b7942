import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PublicKey, SecretKey } from '../../src/nix/key.ts';
import { readSecretKeyFile } from '../../src/nix/key-file.ts';
import { printNamed } from '../../src/nix/named-bytes.ts';
import { NarInfo } from '../../src/nix/narinfo/narinfo.ts';
import type { Signed } from '../../src/nix/signature.ts';
import { fingerprint, parseSignature } from '../../src/nix/signature.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { decodePathInfo } from '../../src/store/path-info/message.ts';
import { toHex } from '../../src/util/bytes.ts';
import { forAll, parsedOrRefused, pathInfos } from '../helpers/arbitraries.ts';
import { describeFacts, facts } from '../helpers/facts.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { codeOf } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const KEY = SecretKey.generate('test-1');

/** A path with references in another order than Nix has them. */
const PATH: Signed = {
  storePath: StorePath.parse('00bgd045z0d4icpbc2yyz4gx48ak44la-name'),
  narSha256: new Uint8Array(32),
  narSize: 120n,
  references: ['9', '1', '5', '1'].map((digit) => StorePath.parse(`${digit.repeat(32)}-name`)),
};

describeFacts('signing_key', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    if (expected.error) {
      expect(await codeOf(() => SecretKey.parse(input.string))).toBe('INVALID_ARGUMENT');
      return;
    }
    const key = SecretKey.parse(input.keypair);
    expect([key.name, toHex(key.publicKey.data)]).toEqual([expected.name, expected.public_key_hex]);
    expect(`${key.publicKey}`).toBe(expected.verifying_key_string);
    expect(key.secret()).toBe(input.keypair);
  });
});

describeFacts('verifying_key_parse', (all) => {
  test.each(all)('$name', async ({ input }) => {
    expect(await codeOf(() => PublicKey.parse(input.string))).toBe('INVALID_ARGUMENT');
  });
});

describeFacts('signature_parse', (all) => {
  test.each(all)('$name', async ({ input }) => {
    expect(await codeOf(() => parseSignature(input.string))).toBe('INVALID_ARGUMENT');
  });
});

describeFacts('signature_json', (all) => {
  test.each(all)('$name', ({ input, expected }) => {
    const signature = parseSignature(JSON.parse(input.json));
    expect([signature.name, toHex(signature.data)]).toEqual([expected.name, expected.bytes_hex]);
  });
});

describeFacts('signature', (all) => {
  test.each(all)('$name', ({ name, input, expected }) => {
    const fact = facts('pathinfo_proto').find((fact) => name === `${fact.name}_do.not.use`)!;
    const info = decodePathInfo(Buffer.from(fact.expected.proto_hex, 'hex'));
    expect(fingerprint(info)).toBe(expected.fingerprint);
    expect(printNamed(SecretKey.parse(input.keypair).sign(info))).toBe(expected.signature);
  });
});

describeFacts('narinfo_nix_signed', (all) => {
  test.each(all)('$name', ({ input, expected }) => {
    const key = SecretKey.parse(input.keypair);
    const info = NarInfo.parse(Buffer.from(input.narinfo));
    expect(fingerprint(info)).toBe(expected.fingerprint);
    expect(printNamed(key.sign(info))).toBe(expected.signature);
    expect(info.signatures.some((signature) => key.publicKey.verify(info, signature))).toBe(true);
  });
});

describe('a key', () => {
  test('is read back from its text, with white space around it', () => {
    const secret = KEY.secret();
    expect(SecretKey.parse(`\n ${secret}\n\n`).secret()).toBe(secret);
    expect(`${PublicKey.parse(` ${KEY.publicKey}\n`)}`).toBe(`${KEY.publicKey}`);
  });

  test('is another one each time', () => {
    expect(SecretKey.generate('test-1').secret()).not.toBe(KEY.secret());
  });

  test.each(['a', 'cache.example.org-1', 'a_b', 'a/b=c', 'ü', '-'])('can have the name %s', (name) => {
    const key = SecretKey.parse(SecretKey.generate(name).secret());
    expect([key.name, key.publicKey.name]).toEqual([name, name]);
    expect(key.publicKey.verify(PATH, key.sign(PATH))).toBe(true);
  });

  test.each(['', ' ', 'a b', 'a:b', 'a\n', 'a\u00a0b', 'a.castore'])(
    'cannot have the name %j',
    async (name) => {
      expect(await codeOf(() => SecretKey.generate(name))).toBe('INVALID_ARGUMENT');
    },
  );

  test('with a public half of another one is refused', async () => {
    const [, other] = SecretKey.generate('test-1').secret().split(':');
    const mixed = Buffer.concat([
      Buffer.from(KEY.secret().split(':')[1]!, 'base64').subarray(0, 32),
      Buffer.from(other!, 'base64').subarray(32),
    ]);
    expect(() => SecretKey.parse(`test-1:${mixed.toString('base64')}`)).toThrow('public half');
  });

  test('that is damaged is refused with INVALID_ARGUMENT, if at all', () => {
    const secret = KEY.secret();
    forAll(fc.tuple(fc.nat(secret.length), fc.string({ maxLength: 3 })), ([at, text]) => {
      parsedOrRefused(() => SecretKey.parse(secret.slice(0, at) + text + secret.slice(at + 1)));
    });
  });

  test('is not shown by the error that refuses it', () => {
    const secret = KEY.secret();
    for (const text of [
      secret.slice(0, -1),
      `${secret}=`,
      secret.replace(':', ''),
      secret.replace('-', ' '),
    ]) {
      expect(() => SecretKey.parse(text)).toThrow(
        expect.objectContaining({ message: expect.not.stringContaining(secret.slice(20, 40)) }),
      );
    }
  });
});

describe('a list of public keys', () => {
  test('has white space between them', () => {
    const others = [SecretKey.generate('a').publicKey, SecretKey.generate('b').publicKey];
    expect(PublicKey.parseList(` ${others[0]}\n\t${others[1]}  `).join(' ')).toBe(others.join(' '));
    expect(PublicKey.parseList(' ')).toEqual([]);
  });

  test('with a bad one is refused', async () => {
    expect(await codeOf(() => PublicKey.parseList(`${KEY.publicKey} a:b`))).toBe('INVALID_ARGUMENT');
  });
});

describe('a signature', () => {
  test('is right for what was signed, whatever the order of the references, and nothing else', () => {
    forAll(
      pathInfos,
      (info) => {
        const signature = parseSignature(printNamed(KEY.sign(info)));
        const verify = (signed: Signed) => KEY.publicKey.verify(signed, signature);
        expect(verify(info)).toBe(true);
        expect(verify({ ...info, references: [...info.references].reverse() })).toBe(true);
        expect(verify({ ...info, narSize: info!.narSize + 1n })).toBe(false);
        expect(verify({ ...info, references: [...info.references, PATH.storePath] })).toBe(false);
        expect(verify({ ...info, storePath: PATH.storePath })).toBe(false);
      },
      50,
    );
  });

  test('by another key is not right, nor under another name, nor damaged', () => {
    const { data } = KEY.sign(PATH);
    const verify = (name: string, bytes: Uint8Array) => KEY.publicKey.verify(PATH, { name, data: bytes });
    expect(verify('test-1', data)).toBe(true);
    expect(verify('test-2', data)).toBe(false);
    expect(verify('test-1', SecretKey.generate('test-1').sign(PATH).data)).toBe(false);
    expect(
      verify(
        'test-1',
        data.map((byte, i) => (i === 40 ? byte ^ 1 : byte)),
      ),
    ).toBe(false);
    expect(verify('test-1', data.subarray(1))).toBe(false);
  });
});

describe('a key file', () => {
  const write = (text: string, mode = 0o600) => {
    const path = join(tempDir(), 'key');
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  };

  test('is read', async () => {
    expect((await readSecretKeyFile(write(`${KEY.secret()}\n`))).secret()).toBe(KEY.secret());
  });

  test.each([
    ['a public key', `${KEY.publicKey}\n`],
    ['nothing', ''],
    ['two keys', `${KEY.secret()}\n${KEY.secret()}\n`],
    ['much too much', 'x'.repeat(100_000)],
  ])('with %s in it is refused, and named', async (_, text) => {
    const path = write(text);
    await expect(readSecretKeyFile(path)).rejects.toThrow(
      `cannot use the secret key in ${path}: not a secret key`,
    );
  });

  test('that is not there, a directory or endless is refused, and named', async () => {
    const dir = tempDir();
    mkdirSync(join(dir, 'directory'));
    for (const path of [join(dir, 'absent'), join(dir, 'directory'), '/dev/zero']) {
      expect(await codeOf(readSecretKeyFile(path))).toBe('INVALID_ARGUMENT');
      await expect(readSecretKeyFile(path)).rejects.toThrow(`cannot use the secret key in ${path}: `);
    }
  });
});

describeNix('keys and signatures, beside those of Nix', () => {
  const nix = new NixUser();

  test('are the same both ways', async () => {
    const theirs = (await nix.run('nix', ['key', 'generate-secret', '--key-name', 'their_s'])).toString();
    const key = SecretKey.parse(theirs);
    expect(key.secret()).toBe(theirs);
    const convert = async (secret: string) =>
      (await nix.run('nix', ['key', 'convert-secret-to-public'], { input: Buffer.from(secret) })).toString();
    expect(await convert(theirs)).toBe(`${key.publicKey}`);
    expect(await convert(KEY.secret())).toBe(`${KEY.publicKey}`);
  });

  test('are taken by Nix, and what it signs with our key is what we sign', async () => {
    const dir = tempDir();
    const store = join(dir, 'store');
    writeFileSync(join(dir, 'file'), 'contents');
    writeFileSync(join(dir, 'key'), KEY.secret());
    const nixStore = (args: string[]) => nix.run('nix', ['store', ...args, '--store', store]);
    const path = (await nixStore(['add-file', join(dir, 'file'), '--name', 'file'])).toString().trim();
    await nixStore(['sign', '-k', join(dir, 'key'), path]);
    const trusted = ['--option', 'trusted-public-keys', `${KEY.publicKey}`];
    await nixStore(['verify', '--sigs-needed', '1', ...trusted, path]);
    const [info] = await nix.pathInfos(['--store', store, path]);
    const narinfo = `StorePath: ${path}\nURL: x\nNarHash: ${info!.narHash}\nNarSize: ${info!.narSize}\n`;
    const signed = NarInfo.parse(Buffer.from(narinfo));
    expect(info!.signatures).toEqual([printNamed(KEY.sign(signed))]);
  });
});
