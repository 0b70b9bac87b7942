import { StorePath } from '../../nix/store-path.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { Store } from '../services.ts';
import type { IngestOptions } from './ingest.ts';
import { ingestNar } from './ingest.ts';

/**
 * Imports a NAR as a store path, content-addressed (`fixed:r:sha256`, no references). When this resolves, all
 * of it is durable. Throws as `ingestNar` does.
 */
export async function importNar(
  store: Store,
  nar: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  name: string,
  options: IngestOptions = {},
): Promise<PathInfo> {
  const { node, narSize, narSha256 } = await ingestNar(nar, store, options);
  await store.directories.flush();
  await store.blobs.flush();
  const info: PathInfo = {
    storePath: StorePath.ofNar(name, narSha256),
    node,
    references: [],
    narSize,
    narSha256,
    signatures: [],
    ca: { type: 'fixed:r:sha256', digest: narSha256 },
  };
  return store.pathInfos.put(info, options.signal);
}
