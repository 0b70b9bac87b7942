import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseNixJson } from '../../src/store/path-info/nix-json.ts';
import type { PathDescription } from '../../src/store/path-info/path-info.ts';
import { toHex } from '../../src/util/bytes.ts';
import { StoreError } from '../../src/util/errors.ts';
import { describeFacts, type Fact } from '../helpers/facts.ts';
import { codeOf } from '../helpers/services.ts';

const PATH = '/nix/store/7n0mbqydcipkpbxm24fab066lxk68aqk-libunistring-1.1';
const SIGNATURE = `cache.example-1:${Buffer.alloc(64, 5).toString('base64')}`;
const FIELDS = {
  narHash: 'sha256:11vm2x1ajhzsrzw7lsyss51mmr3b6yll9wdjn51bh7liwkpc8ila',
  narSize: 1828984,
  references: [PATH],
  deriver: '/nix/store/vs9976cyyxpykvdnlv7x85fpp3shn6ij-libunistring-1.1.drv',
  signatures: [SIGNATURE],
  ca: 'fixed:r:sha256:11vm2x1ajhzsrzw7lsyss51mmr3b6yll9wdjn51bh7liwkpc8ila',
};
const [SRI] = parseNixJson(JSON.stringify([{ path: PATH, ...FIELDS }])).map(
  ({ narSha256 }) => `sha256-${Buffer.from(narSha256).toString('base64')}`,
);

/** A description in a form that can be compared. */
function plain(paths: readonly PathDescription[]) {
  return paths.map((path) => ({
    path: String(path.storePath),
    references: path.references.map(String),
    deriver: path.deriver && String(path.deriver),
    narSha256: toHex(path.narSha256),
    narSize: path.narSize,
    signatures: path.signatures.map(({ name, data }) => `${name} ${toHex(data)}`),
    ca: path.ca && `${path.ca.type} ${toHex(path.ca.digest)}`,
  }));
}

const base = (path: string) => path.slice('/nix/store/'.length);

test('a content address of a kind that only Nix can compute tells nothing, and fails nothing', () => {
  const hash = 'blake3-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=';
  for (const ca of [
    'fixed:git:sha1:0000000000000000000000000000000000000000',
    `fixed:r:${hash.replace('-', ':')}`,
    { method: 'git', hash: 'sha1-AAAAAAAAAAAAAAAAAAAAAAAAAAA=' },
    { method: 'nar', hash },
  ])
    expect(parseNixJson(JSON.stringify({ [PATH]: { ...FIELDS, ca } }))[0]!.ca).toBeUndefined();
});

test('a deriver that is no derivation is left out', () => {
  const [told] = parseNixJson(JSON.stringify({ [PATH]: { ...FIELDS, deriver: PATH } }));
  expect(told!.deriver).toBeUndefined();
});

test('what is told of another store is refused', () => {
  for (const told of [
    { [PATH]: { ...FIELDS, storeDir: '/gnu/store' } },
    { version: 3, storeDir: '/gnu/store', info: { [base(PATH)]: FIELDS } },
  ])
    expect(() => parseNixJson(JSON.stringify(told))).toThrow('of the store "/gnu/store"');
});

describe('what Nix tells as JSON', () => {
  test.each([
    ['the map', { [PATH]: FIELDS }],
    ['a reference graph', { closure: [{ path: PATH, closureSize: 1, ...FIELDS }], outputs: {} }],
    ['the map with hashes for the web', { [PATH]: { ...FIELDS, narHash: SRI } }],
    [
      'the form with base names and parts',
      {
        version: 3,
        storeDir: '/nix/store',
        info: {
          [base(PATH)]: {
            ...FIELDS,
            narHash: { algorithm: 'sha256', format: 'base64', hash: SRI!.slice(7) },
            references: [base(PATH)],
            deriver: base(FIELDS.deriver),
            signatures: [{ keyName: 'cache.example-1', sig: SIGNATURE.split(':')[1] }],
            ca: { method: 'nar', hash: SRI },
          },
        },
      },
    ],
  ])('is read from %s as from the list', (_, value) => {
    const list = parseNixJson(JSON.stringify([{ path: PATH, valid: true, ...FIELDS }]));
    expect(plain(parseNixJson(JSON.stringify(value)))).toEqual(plain(list));
    expect(plain(list)[0]).toMatchObject({
      deriver: base(FIELDS.deriver).replace(/\.drv$/, ''),
      narSize: 1828984n,
    });
  });

  test.each([
    ['no JSON', '[', 'INVALID_ARGUMENT'],
    ['something else', '"x"', 'INVALID_ARGUMENT'],
    ['a path that is not valid, in the list', `[{"path":"${PATH}","valid":false}]`, 'NOT_FOUND'],
    ['a path that is not valid, in the map', `{"${PATH}":null}`, 'NOT_FOUND'],
    ['a path elsewhere', JSON.stringify({ '/gnu/store/x': FIELDS }), 'INVALID_ARGUMENT'],
    ['no NAR hash', JSON.stringify({ [PATH]: { ...FIELDS, narHash: undefined } }), 'INVALID_ARGUMENT'],
    [
      'another NAR hash',
      JSON.stringify({ [PATH]: { ...FIELDS, narHash: `md5:${'0'.repeat(32)}` } }),
      'INVALID_ARGUMENT',
    ],
    ['a size that is none', JSON.stringify({ [PATH]: { ...FIELDS, narSize: -1 } }), 'INVALID_ARGUMENT'],
    ['no references', JSON.stringify({ [PATH]: { ...FIELDS, references: undefined } }), 'INVALID_ARGUMENT'],
    ['an unknown address', JSON.stringify({ [PATH]: { ...FIELDS, ca: 'git:x' } }), 'INVALID_ARGUMENT'],
  ])('is refused: %s', async (_, text, code) => {
    expect(await codeOf(() => void parseNixJson(text))).toBe(code);
  });

  test('is read or refused, whatever it is', () => {
    const fields = fc.record(
      Object.fromEntries(
        Object.keys(FIELDS).map((key) => [
          key,
          fc.oneof(fc.jsonValue(), fc.constant(FIELDS[key as keyof typeof FIELDS])),
        ]),
      ),
      { requiredKeys: [] },
    );
    void fc.assert(
      fc.property(
        fc.oneof(
          fc.jsonValue(),
          fields.map((entry) => ({ [PATH]: entry })),
        ),
        (value) => {
          try {
            parseNixJson(JSON.stringify(value));
          } catch (error) {
            expect(error).toBeInstanceOf(StoreError);
          }
        },
      ),
    );
  });
});

describeFacts('exported_path_info', (facts: readonly Fact[]) => {
  test.each(facts.map((fact) => [fact.name, fact] as const))('%s is read', (_, { input, expected }) => {
    const paths = parseNixJson((input as { json: string }).json);
    const { nar_sha256_hex } = expected as { nar_sha256_hex?: string };
    expect(paths.length).toBeGreaterThan(0);
    if (nar_sha256_hex) expect(paths.map(({ narSha256 }) => toHex(narSha256))).toContain(nar_sha256_hex);
    // Theirs keeps the ending, and a second one comes when it is printed.
    for (const { deriver } of paths) expect(deriver?.name ?? '').not.toMatch(/\.drv$/);
  });
});
