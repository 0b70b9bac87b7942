import { DigestMap } from '../../castore/local/digest-map.ts';
import type { Eviction } from '../../castore/local/evictor.ts';
import { planEviction } from '../../castore/local/evictor.ts';
import { RecentUse } from '../../castore/local/recent-use.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import { TreeWalker } from '../../castore/local/walk.ts';
import { PathInfoTable } from '../path-info/local.ts';

/** A store path in a cache, and how many bytes of its files would go. */
export interface EvictedPath {
  readonly path: string;
  readonly freed: number;
}

/** What would go from a cache to bring it below a size. Store paths that share what would go each count it. */
export async function foreseeEviction(
  { env, reader }: LocalStore,
  maxSize: number,
  onPath: (path: EvictedPath) => void,
): Promise<Eviction> {
  const { going, ...eviction } = await planEviction(env, new RecentUse(env), maxSize);
  for await (const { storePath, node } of new PathInfoTable(env).all()) {
    let freed = 0;
    const seen = new DigestMap();
    const chunks = new DigestMap();
    const walker = new TreeWalker(reader, {
      directory: (digest) => seen.set(digest),
      blob: (digest) => seen.set(digest),
      chunk: (digest, size) => {
        if (going.has(digest) && chunks.set(digest)) freed += size;
      },
      // It has not been fetched yet.
      broken: () => {},
    });
    await walker.walk(node);
    if (freed > 0) onPath({ path: storePath.absolute(), freed });
  }
  return eviction;
}
