import type { Kind, ObjectStore } from '../../../castore/objects/object-store.ts';
import { contentsOf, digestsOf, listPathInfos } from './listing.ts';
import { References } from './references.ts';

/** Numbers about the contents of a bucket. All sizes are in bytes. */
export interface BucketStats {
  readonly paths: number;
  /** Trees of directories, each one object. */
  readonly directories: number;
  /** Lists of the chunks of blobs that have several. */
  readonly blobs: number;
  readonly chunks: number;
  /** All store paths as they are: the lengths of their NARs. */
  readonly apparentSize: number;
  /** The objects as they are kept, compressed. */
  readonly storedSize: number;
  /** Of the stored ones, what no store path refers to. */
  readonly unreferenced: { readonly objects: number; readonly size: number };
}

/** Counts what is in a bucket. It lists everything, and reads path infos, directories and lists of chunks. */
export async function statsOfBucket(
  objects: ObjectStore,
  onProgress: () => void,
  signal?: AbortSignal,
): Promise<BucketStats> {
  const lists = await digestsOf(objects, 'blobs', signal);
  const references = new References(objects, (digest) => lists.has(digest));
  const stats = { paths: 0, directories: 0, blobs: 0, chunks: 0, apparentSize: 0, storedSize: 0 };
  const unreferenced = { objects: 0, size: 0 };
  for await (const { info, size } of listPathInfos(objects, signal)) {
    onProgress();
    stats.paths++;
    stats.storedSize += size;
    if (!info) continue;
    stats.apparentSize += Number(info.narSize);
    await references.add(info.node, { broken: () => {} }, signal);
  }
  const counts = { dirs: 'directories', blobs: 'blobs', chunks: 'chunks' } as const;
  for (const kind of Object.keys(counts) as Kind[]) {
    for await (const { digest, size } of contentsOf(objects, kind, signal)) {
      stats[counts[kind]]++;
      stats.storedSize += size;
      if (references.seen[kind].has(digest)) continue;
      unreferenced.objects++;
      unreferenced.size += size;
    }
  }
  return { ...stats, unreferenced };
}
