import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { ObjectStoreDirectoryService } from '../../src/castore/directory/object-store.ts';
import { decodePack, encodePack } from '../../src/castore/directory/pack.ts';
import { MemoryObjectStore } from '../../src/castore/objects/memory.ts';
import { keyOf } from '../../src/castore/objects/object-store.ts';
import { zstdCompress, zstdDecompress } from '../../src/util/compression/zstd.ts';
import { directoryOf } from '../contract/directories.ts';
import { all, codeOf } from '../helpers/services.ts';

const links = (count: number) =>
  directoryOf(Object.fromEntries(Array.from({ length: count }, (_, i) => [`link ${i}`, `to ${i}`])));

describe('a pack of directories', () => {
  test('gives back what was packed, however long', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(40), { maxLength: 20 }), async (counts) => {
        const directories = counts.map(links);
        const decoded = await all(decodePack(encodePack(directories)));
        expect(decoded.map((bytes) => Digest.hash(bytes).hex)).toEqual(
          directories.map(({ digest }) => digest.hex),
        );
      }),
      { numRuns: 50 },
    );
    const large = links(40_000);
    const [bytes] = await all(decodePack(encodePack([large, links(1)])));
    expect(Digest.hash(bytes!).hex).toBe(large.digest.hex);
  });

  test('that holds anything else is DATA_LOSS, and nothing but that', async () => {
    const root = directoryOf({ child: links(3) });
    const whole = Buffer.from(zstdDecompress(encodePack([root, links(3)]), 1 << 20));
    const edit = fc.record({ at: fc.nat(whole.length + 10), bytes: fc.uint8Array({ maxLength: 6 }) });
    await fc.assert(
      fc.asyncProperty(edit, fc.boolean(), async ({ at, bytes }, isCut) => {
        const edited = Buffer.concat(
          [whole.subarray(0, at), bytes, isCut ? [] : whole.subarray(at)].map(Buffer.from),
        );
        fc.pre(!edited.equals(whole));
        const objects = new MemoryObjectStore();
        await objects.put(keyOf('dirs', root.digest), zstdCompress(edited), 'absent');
        expect(await codeOf(all(new ObjectStoreDirectoryService(objects).getRecursive(root.digest)))).toBe(
          'DATA_LOSS',
        );
      }),
      { numRuns: 200 },
    );
  });

  test('is refused when one of its directories claims to be longer than any may be', async () => {
    const pack = zstdCompress(Buffer.from('7fffffff00', 'hex'));
    expect(await codeOf(all(decodePack(pack)))).toBe('DATA_LOSS');
  });
});
