import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import type { Node } from '../../src/castore/node.ts';
import { parseSymlinkTarget } from '../../src/castore/node.ts';
import { encodeRoot } from '../../src/castore/node-message.ts';
import { SecretKey } from '../../src/nix/key.ts';
import { printNamed } from '../../src/nix/named-bytes.ts';
import { NarInfo } from '../../src/nix/narinfo/narinfo.ts';
import { castoreFingerprint, fingerprint } from '../../src/nix/signature.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { decodePathInfo, encodePathInfo } from '../../src/store/path-info/message.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { isRootSignedBy, isSignedBy, signaturesBy } from '../../src/store/trust/verify.ts';
import { asBuffer } from '../../src/util/bytes.ts';
import { forAll, pathInfos } from '../helpers/arbitraries.ts';
import { codeOf } from '../helpers/services.ts';

/** Of the bytes 0 to 31. Texts and signatures below were made without this program, by Python and OpenSSL. */
const KEY = SecretKey.parse(
  'golden-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==',
);
const digest = Digest.of(Uint8Array.from({ length: 32 }, (_, i) => 32 + i));
const target = parseSymlinkTarget(Buffer.from('target'));
const references = ['9', '1', '5', '1'].map((digit) => StorePath.parse(`${digit.repeat(32)}-name`));

const infoOf = (node: Node, references: readonly StorePath[] = []): PathInfo => ({
  storePath: StorePath.parse('00bgd045z0d4icpbc2yyz4gx48ak44la-name'),
  node,
  references,
  narSize: 120n,
  narSha256: new Uint8Array(32),
  signatures: [],
});

const BEGIN = 'castore-1;/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-name;';
const END = `;sha256:${'0'.repeat(52)};120;`;

describe('the signature over a castore root', () => {
  test.each<[string, PathInfo, string, string, string]>([
    [
      'a directory with references',
      infoOf({ kind: 'directory', digest, size: 300n }, references),
      'CiUSICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/GKwC',
      ['1', '5', '9'].map((digit) => `/nix/store/${digit.repeat(32)}-name`).join(','),
      '8oluliCjsRpbHNL26oQ6im015EJSNTtbWJxocfIJDK9TQmuv4dHrUw0R+B8vRIoG0EH4FprmUk21NFC3+tF6Cw==',
    ],
    [
      'a directory',
      infoOf({ kind: 'directory', digest, size: 300n }),
      'CiUSICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/GKwC',
      '',
      'u5rqxtqQLU0Ep6+zCityl1PZsqgTIQjUhWJSnKz7ZRumoZAzcUlf167ktJmkJF6dfJFgz0bIBUq5M44xT3eNDA==',
    ],
    [
      'an empty directory',
      infoOf({ kind: 'directory', digest, size: 0n }),
      'CiISICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/',
      '',
      '3FNNdUo+KXSJ1Kc0OVlkDSPQLfnpMkAaP7XJ4WHCuj5g0tXjrxOMVFY/3HiHzmSeAI3SG3n/UcCENOUsH9ruBA==',
    ],
    [
      'a file',
      infoOf({ kind: 'file', digest, size: 5n, executable: false }),
      'EiQSICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/GAU=',
      '',
      'kL+JuTDhE2U9VdYOJuk5KOdUsYRoIaMRGF4DalnG0yC3nOJhnsNfWGAnvcPIrEqo8YYeeUcOe4CXW4pdbzzHDw==',
    ],
    [
      'an executable',
      infoOf({ kind: 'file', digest, size: 5n, executable: true }),
      'EiYSICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/GAUgAQ==',
      '',
      'g0aiBUB+xsk5tmxKshvo9VqQDNTJV5y2sCqye6ldNowPzdW75lxUn+oqbdKNp5tvAEr9RFnX5O/jvAqvbufyCw==',
    ],
    [
      'a symbolic link',
      infoOf({ kind: 'symlink', target }),
      'GggSBnRhcmdldA==',
      '',
      'F6Ny6ngLOY151mYTtCvsBSVsRyZJV007p2DFNhgIIgeOqWxjCbS/Dwyg3rbbLppubvlZawg9DToRA+tVnCX0Ag==',
    ],
  ])('of %s is this', (_, info, root, names, signature) => {
    const bytes = encodeRoot(info.node);
    expect(castoreFingerprint(info, bytes)).toBe(`${BEGIN}${root}${END}${names}`);
    expect(printNamed(KEY.signRoot(info, bytes))).toBe(`golden-1.castore:${signature}`);
  });

  test('is of these values only', () => {
    forAll(fc.tuple(pathInfos, pathInfos), ([info, others]) => {
      const signed = { ...info, signatures: signaturesBy(KEY, info) };
      expect(isRootSignedBy(signed, [KEY.publicKey])).toBe(true);
      for (const field of ['storePath', 'node', 'references', 'narSize', 'narSha256'] as const) {
        const changed = { ...signed, [field]: others[field] };
        const isSame = textOf(changed) === textOf(signed);
        expect(isRootSignedBy(changed, [KEY.publicKey])).toBe(isSame);
      }
      for (const node of changesOf(signed.node))
        expect(isRootSignedBy({ ...signed, node }, [KEY.publicKey])).toBe(false);
      // Nix does not sign it, and so does not notice.
      const moved: PathInfo = { ...signed, node: others.node };
      expect(isSignedBy(moved, [KEY.publicKey])).toBe(true);
    });
  });

  test('does not pass for that of Nix, nor that for it, nor that of another key', () => {
    const info = infoOf({ kind: 'symlink', target });
    const [nix, castore] = signaturesBy(KEY, info);
    const swapped = [
      { name: castore!.name, data: nix!.data },
      { name: nix!.name, data: castore!.data },
    ];
    expect(isRootSignedBy({ ...info, signatures: swapped }, [KEY.publicKey])).toBe(false);
    expect(isSignedBy({ ...info, signatures: swapped }, [KEY.publicKey])).toBe(false);
    const impostor = SecretKey.generate(KEY.name);
    const forged = { ...info, signatures: signaturesBy(impostor, info) };
    expect(isRootSignedBy(forged, [KEY.publicKey])).toBe(false);
    expect(isRootSignedBy(forged, [KEY.publicKey, impostor.publicKey])).toBe(true);
    expect(fingerprint(info).startsWith('castore')).toBe(false);
  });

  test('stays with the path info, on the wire and in a narinfo, where it is no line of Nix', async () => {
    const info = infoOf({ kind: 'file', digest, size: 5n, executable: true });
    const [nix, castore] = signaturesBy(KEY, info);
    const signed = { ...info, signatures: [nix!, castore!] };
    expect(decodePathInfo(encodePathInfo(signed)).signatures.map(printNamed)).toEqual(
      signed.signatures.map(printNamed),
    );
    const told = { ...signed, url: 'x', compression: 'none' };
    const narInfo = NarInfo.of({ ...told, signatures: [castore!, nix!] });
    expect(`${narInfo}`.split('\n').filter((line) => line.includes('Sig'))).toEqual([
      `Sig: ${printNamed(nix!)}`,
      `CastoreSig: golden-1:${asBuffer(castore!.data).toString('base64')}`,
    ]);
    expect(NarInfo.parse(Buffer.from(`${narInfo}`)).signatures).toEqual([nix, castore]);
    // As a program writes it that knows none.
    const foreign = `${narInfo}`.replace('CastoreSig: golden-1:', 'Sig: golden-1.castore:');
    expect(NarInfo.parse(Buffer.from(foreign)).signatures).toEqual([nix, castore]);
    expect(`${narInfo.with({ signatures: [nix!] })}`).not.toContain('CastoreSig');
    const many = Array.from({ length: 501 }, () => castore!);
    const tooMany = { ...told, signatures: [...many, ...many.map(() => nix!)] };
    expect(await codeOf(() => NarInfo.of(tooMany))).toBe('INVALID_ARGUMENT');
  });
});

function textOf(info: PathInfo): string {
  return castoreFingerprint(info, encodeRoot(info.node));
}

/** Other roots that differ from one in as little as can be. */
function changesOf(node: Node): Node[] {
  if (node.kind === 'symlink')
    return [{ ...node, target: parseSymlinkTarget(Buffer.from([...node.target, 0x61])) }];
  const bytes = Uint8Array.from(node.digest.bytes);
  bytes[31]! ^= 1;
  const changes: Node[] = [
    { ...node, digest: Digest.of(bytes) },
    { ...node, size: node.size + 1n },
  ];
  if (node.kind === 'file') changes.push({ ...node, executable: !node.executable });
  return changes;
}
