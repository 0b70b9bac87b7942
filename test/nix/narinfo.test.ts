import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { printContentAddress } from '../../src/nix/content-address.ts';
import { Hash } from '../../src/nix/hash.ts';
import { PublicKey } from '../../src/nix/key.ts';
import { printNamed } from '../../src/nix/named-bytes.ts';
import type { NarInfoValues } from '../../src/nix/narinfo/narinfo.ts';
import { MAX_NARINFO_LENGTH, NarInfo } from '../../src/nix/narinfo/narinfo.ts';
import { fingerprint } from '../../src/nix/signature.ts';
import { toHex } from '../../src/util/bytes.ts';
import { forAll, narInfos, parsedOrRefused } from '../helpers/arbitraries.ts';
import { describeCorpus, describeFacts, facts } from '../helpers/facts.ts';
import { codeOf } from '../helpers/services.ts';

const CACHE = PublicKey.parse('cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=');
const parse = (text: string) => NarInfo.parse(Buffer.from(text));

describeCorpus((narinfos) => {
  test('are read whole and printed the same, and their signatures are right', () => {
    let valid = 0;
    for (const text of narinfos) {
      const info = parse(text);
      expect(info.toString()).toBe(text);
      if (info.signatures.some((signature) => CACHE.verify(info, signature))) valid++;
    }
    expect(valid).toBe(
      facts('narinfo_corpus').find(({ name }) => name === 'summary')?.expected.entries ?? 978,
    );
  });

  test('are printed the same from what they tell', () => {
    for (const text of narinfos) {
      const info = parse(text);
      expect(NarInfo.of(info).toString()).toBe(text);
      expect(info.with(info).toString()).toBe(text);
    }
  });
});

describeFacts('narinfo_corpus', (all) => {
  test.each(all.filter(({ input }) => input.narinfo))('$name', ({ input, expected }) => {
    expect(fingerprint(parse(input.narinfo))).toBe(expected.fingerprint);
  });
});

/** What the Rust programs refuse, and Nix takes: nothing depends on it. */
const TAKEN = ['fail_blank_line', 'fail_deriver_without_drv'];

describeFacts('narinfo_parse', (all) => {
  test.each(all.filter(({ name }) => !TAKEN.includes(name)))('$name', async ({ input, expected }) => {
    if (expected.error) {
      expect(await codeOf(() => parse(input.narinfo))).toBe('INVALID_ARGUMENT');
      return;
    }
    const info = parse(input.narinfo);
    expect(info.toString()).toBe(input.narinfo);
    if (expected.n_signatures !== undefined) expect(info.signatures.length).toBe(expected.n_signatures);
    if ('deriver' in expected) expect(info.deriver).toBeUndefined();
    if ('compression' in expected)
      expect(info.compression).toBe(expected.compression === null ? 'none' : 'bzip2');
    if (expected.ca) expect(`nar sha1 ${toHex(info.ca!.digest)}`).toBe(expected.ca);
  });
});

const HASH = '00bgd045z0d4icpbc2yyz4gx48ak44la';
const SHA256 = Hash.compute('sha256', Buffer.from('nar'));
const LEAST = {
  StorePath: `/nix/store/${HASH}-name`,
  URL: 'nar/x.nar',
  NarHash: `${SHA256}`,
  NarSize: '120',
};
const narinfo = (fields: Record<string, string> = {}) =>
  Object.entries({ ...LEAST, ...fields })
    .map(([key, value]) => `${key}: ${value}\n`)
    .join('');

describe('a narinfo', () => {
  test('is read back as it was made', () => {
    forAll(narInfos, (values) => {
      const info = NarInfo.of(values);
      const back = parse(info.toString());
      expect(back.toString()).toBe(info.toString());
      expect(shown(back)).toEqual(shown(values));
    });
  });

  test('needs little', () => {
    const info = parse(narinfo());
    expect(info.compression).toBe('bzip2');
    expect([info.references, info.signatures]).toEqual([[], []]);
    expect([info.fileHash, info.fileSize, info.deriver, info.system, info.ca]).toEqual(
      Array(5).fill(undefined),
    );
  });

  test('has an empty line of references when there are none', () => {
    const { storePath, narSha256 } = parse(narinfo());
    const least = { storePath, narSha256, narSize: 120n, references: [], signatures: [] };
    expect(NarInfo.of({ ...least, url: 'nar/x.nar', compression: 'none' }).toString()).toBe(
      `StorePath: /nix/store/${HASH}-name\nURL: nar/x.nar\nCompression: none\nNarHash: ${SHA256}\nNarSize: 120\nReferences: \n`,
    );
  });

  test('keeps what it does not know, and where it stands', () => {
    const text = `X: 1\n${narinfo({ Deriver: 'unknown-deriver', 'Some key': 'ü: x', Empty: '' })}System:\nX: 2\nSig: odd\n`;
    const info = parse(text);
    expect(info.toString()).toBe(text);
    expect([info.deriver, info.system, info.signatures.length]).toEqual([undefined, '', 0]);
    const changed = info.with({ url: 'other', fileSize: 7n });
    expect(changed.toString()).toBe(text.replace('nar/x.nar\n', 'other\nFileSize: 7\n'));
    expect(changed.with({ url: 'nar/x.nar', fileSize: undefined }).toString()).toBe(text);
  });

  test('can have hashes in every base, and an absolute URL', () => {
    for (const hash of [SHA256.toBase16(), SHA256.toBase64(), SHA256.toSri()]) {
      const info = parse(narinfo({ NarHash: hash, FileHash: hash, URL: 'https://host/x?y=1:2' }));
      expect(Hash.of('sha256', info.narSha256).equals(SHA256)).toBe(true);
      expect(info.fileHash!.equals(SHA256)).toBe(true);
      expect(info.url).toBe('https://host/x?y=1:2');
    }
  });

  test('may tell what is of no use, as Nix takes it', () => {
    const text = `\n${narinfo({ Deriver: `${HASH}-name` })}\n\nX: 1\n\n`;
    const info = parse(text);
    expect([info.toString(), info.deriver, info.narSize]).toEqual([text, undefined, 120n]);
    expect(info.with({ narSize: 7n }).toString()).toBe(text.replace('120', '7'));
    const sri = SHA256.toSri().replace(/=$/, '');
    expect(toHex(parse(narinfo({ NarHash: sri })).narSha256)).toBe(toHex(SHA256.digest));
  });

  test('with an address of a kind that we cannot compute has none', () => {
    expect(parse(narinfo({ CA: `fixed:r:blake3:${SHA256.toString().slice(7)}` })).ca).toBeUndefined();
    expect(parse(narinfo({ CA: `fixed:git:${SHA256}` })).ca).toBeUndefined();
    expect(parse(narinfo({ CA: '' })).ca).toBeUndefined();
    expect(printContentAddress(parse(narinfo({ CA: `fixed:r:${SHA256}` })).ca!)).toBe(`fixed:r:${SHA256}`);
  });

  test.each<[string, string]>([
    ['nothing', ''],
    ['a last line that does not end', narinfo().slice(0, -1)],
    ['a line without colon', `${narinfo()}garbage\n`],
    ['no space after a colon', `${narinfo()}Key:value\n`],
    ['lines that end like those of DOS', narinfo().replaceAll('\n', '\r\n')],
    ['two store paths', narinfo() + narinfo()],
    ['two lists of references', `${narinfo()}References: \nReferences: \n`],
    ['two content addresses', `${narinfo()}CA: fixed:${SHA256}\nCA: fixed:${SHA256}\n`],
    ['a store path elsewhere', narinfo({ StorePath: `/gnu/store/${HASH}-name` })],
    ['a place in a store path', narinfo({ StorePath: `/nix/store/${HASH}-name/bin` })],
    ['an empty URL', narinfo({ URL: '' })],
    ['a NAR hash by another algorithm', narinfo({ NarHash: `${Hash.compute('sha1', new Uint8Array())}` })],
    ['a NAR hash without algorithm', narinfo({ NarHash: toHex(SHA256.digest) })],
    ['a NAR of no bytes', narinfo({ NarSize: '0' })],
    ['a negative size', narinfo({ NarSize: '-1' })],
    ['a size in another notation', narinfo({ NarSize: '0x10' })],
    ['a size beyond 64 bits', narinfo({ NarSize: '18446744073709551616' })],
    ['a file size that is no number', narinfo({ FileSize: '' })],
    ['a file hash without algorithm', narinfo({ FileHash: toHex(SHA256.digest) })],
    ['an absolute reference', narinfo({ References: `/nix/store/${HASH}-name` })],
    ['a deriver that is no store path', narinfo({ Deriver: 'name.drv' })],
    ['too many signatures', narinfo() + `Sig: a:${Buffer.alloc(64).toString('base64')}\n`.repeat(1001)],
    ['an empty deriver', narinfo({ Deriver: '' })],
    ['a content address that is none', narinfo({ CA: 'fixed' })],
    ['bytes that are not UTF-8', `${narinfo()}Key: `],
    ['more than 2 MiB', narinfo({ Key: 'x'.repeat(MAX_NARINFO_LENGTH) })],
  ])('cannot have %s', async (what, text) => {
    const bytes = Buffer.from(text);
    const odd = what.startsWith('bytes') ? Buffer.concat([bytes, Buffer.from([0xff, 0x0a])]) : bytes;
    expect(await codeOf(() => NarInfo.parse(odd))).toBe('INVALID_ARGUMENT');
  });

  test('can have a size of 64 bits', () => {
    expect(parse(narinfo({ NarSize: '18446744073709551615' })).narSize).toBe(2n ** 64n - 1n);
  });

  test('cannot be made with a line in a value', async () => {
    const info = parse(narinfo());
    expect(await codeOf(() => info.with({ url: 'x\nSig: y' }))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(() => info.with({ system: 'x\n' }))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(() => info.with({ url: '' }))).toBe('INVALID_ARGUMENT');
  });

  test('is refused, or printed the same, when it is damaged', () => {
    const damage = fc.tuple(narInfos, fc.nat(), fc.string({ unit: 'binary', maxLength: 3 }), fc.boolean());
    forAll(
      damage,
      ([values, at, text, cut]) => {
        const whole = NarInfo.of(values).toString();
        const position = at % whole.length;
        const damaged = whole.slice(0, position) + text + (cut ? '' : whole.slice(position + 1));
        const info = parsedOrRefused(() => parse(damaged));
        if (info) expect(info.toString()).toBe(Buffer.from(damaged).toString());
      },
      2000,
    );
  });

  test('of any bytes is refused', () => {
    forAll(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      expect(parsedOrRefused(() => NarInfo.parse(bytes))).toBeUndefined();
    });
  });
});

function shown(values: NarInfoValues) {
  const { storePath, narSha256, references, deriver, signatures, ca, fileHash, ...rest } = { ...values };
  return {
    ...rest,
    paths: [storePath, deriver, ...references].map(String),
    hashes: [String(fileHash), toHex(narSha256)],
    signatures: signatures.map(printNamed),
    ca: ca && printContentAddress(ca),
  };
}
