import type { ImportProgress } from '../castore/import/file-system.ts';
import { importPath } from '../castore/import/file-system.ts';
import { NarWriter, Sha256Sink } from '../nix/nar/writer.ts';
import { StorePath } from '../nix/store-path.ts';
import type { PathInfo } from './path-info/path-info.ts';
import type { Store } from './store.ts';

/**
 * Imports a tree as a store path, content-addressed by its NAR (`fixed:r:sha256`, no references), and
 * registers it. Contents and NAR hash come out of one pass. When this resolves, all of it is durable.
 */
export async function importStorePath(
  store: Store,
  path: Buffer,
  name: string,
  options: { progress?: ImportProgress; onProgress?: () => void; signal?: AbortSignal } = {},
): Promise<PathInfo> {
  const sha256 = new Sha256Sink();
  const nar = new NarWriter(sha256);
  const node = await importPath(path, store, { ...options, observer: nar });
  nar.finish();
  const narSha256 = sha256.digest();
  await store.directories.flush();
  await store.blobs.flush();
  return store.pathInfos.put(
    {
      storePath: StorePath.ofNar(name, narSha256),
      node,
      references: [],
      narSize: BigInt(nar.size),
      narSha256,
      signatures: [],
      ca: { type: 'fixed:r:sha256', digest: narSha256 },
    },
    options.signal,
  );
}
