import { join } from 'node:path';
import { expect, test } from 'vitest';
import { chunked } from '../../src/castore/blob/chunker.ts';
import type { BlobService } from '../../src/castore/blob/service.ts';
import { ServiceTreeCopier } from '../../src/castore/copy/services.ts';
import { Digest } from '../../src/castore/digest.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const CONTENTS = randomBytes(3_000_000, 'begun');

/** A far service with the contents, and what is read there. */
async function far(wrongList = false): Promise<{ blobs: BlobService; sizes: number[]; digest: Digest }> {
  const { blobs } = localStore(join(tempDir(), 'from'));
  const { digest } = await blobs.put([CONTENTS]);
  await blobs.flush();
  const sizes: number[] = [];
  const service: BlobService = {
    async chunks(one) {
      const chunks = (await blobs.chunks(one)) ?? [];
      return wrongList && chunks.length > 2 ? [chunks[0]!, ...chunks.slice(1).reverse()] : chunks;
    },
    has: (one) => blobs.has(one),
    read(one, options) {
      sizes.push(options?.size ?? 0);
      return blobs.read(one, options);
    },
    put: (content, options) => blobs.put(content, options),
    flush: () => blobs.flush(),
  };
  return { blobs: service, sizes, digest };
}

/** A local target that has the first chunks. */
async function begun(count: number) {
  const to = localStore(join(tempDir(), 'to'));
  let left = count;
  let size = 0;
  for await (const chunk of chunked([CONTENTS])) {
    if (left-- === 0) break;
    await to.blobs.put(Uint8Array.from(chunk));
    size += chunk.length;
  }
  await to.blobs.flush();
  return { to, size };
}

async function copy(from: BlobService, to: ReturnType<typeof localStore>, digest: Digest): Promise<void> {
  const size = BigInt(CONTENTS.length);
  const copier = new ServiceTreeCopier({ blobs: from, directories: to.directories }, to);
  await copier.copy({ kind: 'file', digest, size, executable: false });
  await to.blobs.flush();
}

test('of a file that has come in part, only the rest is fetched', async () => {
  const { blobs, sizes, digest } = await far();
  const { to, size } = await begun(5);
  await copy(blobs, to, digest);
  expect(sizes.reduce((sum, one) => sum + one, 0)).toBe(CONTENTS.length - size);
  expect((await readBlob(to, Digest.hash(CONTENTS)))?.equals(CONTENTS)).toBe(true);
  await to.close();
});

test('a file of which nothing has come is fetched in one piece', async () => {
  const { blobs, sizes, digest } = await far();
  const { to } = await begun(0);
  await copy(blobs, to, digest);
  expect(sizes).toEqual([CONTENTS.length]);
  await to.close();
});

test('what a wrong list of chunks makes is not taken for the file', async () => {
  const { blobs, sizes, digest } = await far(true);
  const { to } = await begun(1);
  await copy(blobs, to, digest);
  expect(sizes.at(-1)).toBe(CONTENTS.length);
  expect((await readBlob(to, digest))?.equals(CONTENTS)).toBe(true);
  await to.close();
});
