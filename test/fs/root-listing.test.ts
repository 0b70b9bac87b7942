import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { EMPTY_DIGEST } from '../../src/castore/digest.ts';
import type { EntryNodes } from '../../src/fs/listing.ts';
import { RootListing } from '../../src/fs/listing.ts';
import type { Source } from '../../src/fs/source.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { forAll } from '../helpers/arbitraries.ts';

const node = { kind: 'directory', digest: EMPTY_DIGEST, size: 0n } as const;

/** A source of nothing but these store paths. */
function sourceOf(hashes: readonly Buffer[]): Source {
  const infos = hashes
    .toSorted(Buffer.compare)
    .map((hash) => ({ storePath: StorePath.of(hash, 'x'), node }) as unknown as PathInfo);
  const pathInfosFrom = (from: Uint8Array) =>
    infos.filter((info) => Buffer.compare(info.storePath.hash, from) >= 0);
  return { pathInfosFrom } as Partial<Source> as Source;
}

/** Hashes, many of which begin alike; some with the last of all beginnings. */
const hashes = fc.uniqueArray(
  fc.tuple(fc.constantFrom(0, 1, 2, 500, 0xfffffffe, 0xffffffff), fc.nat(20)).map(([beginning, end]) => {
    const hash = Buffer.alloc(20);
    hash.writeUInt32BE(beginning, 0);
    hash[19] = end;
    return hash;
  }),
  { selector: (hash) => hash.toString('hex'), minLength: 10, maxLength: 60 },
);

test.each([32, 64] as const)('lists each path once, wherever a reader goes on, with %d bits', (bits) => {
  forAll(fc.tuple(hashes, fc.integer({ min: 1, max: 5 })), ([all, atOnce]) => {
    const source = sourceOf(all);
    const names: string[] = [];
    let cookie = 0;
    for (let more = true; more; ) {
      const listing = new RootListing({} as EntryNodes, source, cookie, bits);
      for (let i = 0; i < atOnce && more; i++) {
        more = listing.advance();
        if (!more) break;
        expect(listing.cookie).toBeGreaterThan(cookie);
        cookie = listing.cookie;
        if (bits === 32) expect(cookie).toBeLessThan(2 ** 31);
        names.push(Buffer.from(listing.bytes).toString('latin1', listing.nameStart, listing.nameEnd));
      }
    }
    const wanted = all.toSorted(Buffer.compare).map((hash) => String(StorePath.of(hash, 'x')));
    expect(names).toEqual(['.', '..', ...wanted]);
  });
});
