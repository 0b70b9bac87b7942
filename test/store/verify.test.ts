import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseContentAddress } from '../../src/nix/content-address.ts';
import { Hash } from '../../src/nix/hash.ts';
import { SecretKey } from '../../src/nix/key.ts';
import { SelfHash } from '../../src/nix/self-hash.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { ingestNar } from '../../src/store/nar/ingest.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { unitedSignatures } from '../../src/store/path-info/united.ts';
import { contentProblems, isSignedBy } from '../../src/store/trust/verify.ts';
import { toHex } from '../../src/util/bytes.ts';
import { forAll } from '../helpers/arbitraries.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { randomBytes } from '../helpers/random.ts';
import { memoryStore, sha256 } from '../helpers/services.ts';

test('what refers to itself has the same hash however it is split', () => {
  const path = StorePath.of(randomBytes(20, 'self'), 'self');
  const self = Buffer.from(path.hashText);
  const piece = fc.constantFrom(self, self.subarray(0, 17), self.subarray(17), Buffer.from('x'));
  const pieces = fc.array(piece, { maxLength: 12 });
  forAll(
    fc.tuple(pieces, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 })),
    ([parts, lengths]) => {
      const text = Buffer.concat(parts);
      const positions: number[] = [];
      const without = text
        .toString('latin1')
        .replaceAll(path.hashText, (_, at: number) => `${positions.push(at) && '\0'.repeat(32)}`);
      const wanted = sha256(Buffer.from(`${without}${positions.map((at) => `|${at}`).join('')}`, 'latin1'));
      const hash = new SelfHash('sha256', path);
      for (let at = 0, i = 0; at < text.length; i++) {
        const end = at + lengths[i % lengths.length]!;
        hash.update(text.subarray(at, end));
        at = end;
      }
      expect(hash.digests().map(toHex)).toEqual([wanted, sha256(Buffer.from(without, 'latin1'))].map(toHex));
    },
  );
});

const SELFISH = `derivation {
  name = "selfish"; system = "x86_64-linux"; PATH = "/bin"; builder = "/bin/sh";
  args = [ "-c" "mkdir $out; echo $out/bin > $out/a; echo x$out > $out/b" ];
}`;

describeNix('what Nix has in its store', () => {
  test('is found to be so: by its NAR, text, file, and with references to itself', async () => {
    const nix = new NixUser();
    const store = join(nix.home, 'store');
    const run = async (command: string, ...args: string[]) =>
      (await nix.run(command, [...args, '--store', store])).toString().trim();
    writeFileSync(join(nix.home, 'selfish.nix'), SELFISH);
    const plain = await run('nix-build', join(nix.home, 'selfish.nix'), '--no-out-link');
    await run('nix', 'store', 'make-content-addressed', '-r', plain);
    await run('nix', 'store', 'add-file', join(nix.home, 'selfish.nix'));
    await run('nix', 'store', 'add-path', join(nix.home, 'selfish.nix'), '--name', 'by-nar');
    const paths = await nix.pathInfos(['--all', '--store', store]);
    const kinds = paths.map(({ ca }) => (ca ?? 'none').replace(/:[^:]*$/, '')).sort();
    expect(kinds).toEqual(['fixed:r:sha256', 'fixed:r:sha256', 'fixed:sha256', 'none', 'text:sha256']);

    const ours = memoryStore();
    for (const one of paths) {
      const nar = await nix.run('nix-store', ['--dump', join(store, one.path)]);
      const { node } = await ingestNar([nar] as never, ours);
      const info: PathInfo = {
        storePath: StorePath.parse(one.path.slice('/nix/store/'.length)),
        node,
        narSize: BigInt(one.narSize),
        narSha256: Hash.parse(one.narHash).digest,
        references: one.references.map((path) => StorePath.parse(path.slice('/nix/store/'.length))),
        signatures: [],
        ...(one.ca ? { ca: parseContentAddress(one.ca) } : {}),
      };
      expect(await contentProblems(ours, info)).toEqual([]);
      if (info.ca) {
        const wrong = { ...info, ca: { ...info.ca, digest: randomBytes(32, 'wrong') } };
        expect(await contentProblems(ours, wrong)).toHaveLength(2);
      }
    }
  });
});

test('many references and many signatures are not each read with all of the others', () => {
  const key = SecretKey.generate('key-1');
  const signed = {
    storePath: StorePath.of(randomBytes(20, 'path'), 'path'),
    references: Array.from({ length: 10_000 }, (_, i) => StorePath.of(randomBytes(20, i), `reference-${i}`)),
    narSize: 1n,
    narSha256: randomBytes(32, 'nar'),
  };
  const wrong = Array.from({ length: 1000 }, (_, i) => ({ name: 'key-1', data: randomBytes(64, i) }));
  expect(isSignedBy({ ...signed, signatures: wrong }, [key.publicKey])).toBe(false);
  expect(isSignedBy({ ...signed, signatures: [...wrong, key.sign(signed)] }, [key.publicKey])).toBe(true);
  // Too many come to an end.
  const more = Array.from({ length: 100_000 }, (_, i) => ({ name: `key-${i}`, data: wrong[i % 1000]!.data }));
  expect(unitedSignatures(wrong.slice(0, 10), more)).toHaveLength(1000);
});
