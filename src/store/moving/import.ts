import type { Digest } from '../../castore/digest.ts';
import { digestOnly } from '../../castore/import/digest-only.ts';
import type { ImportOptions, ImportTarget } from '../../castore/import/file-system.ts';
import { importPath } from '../../castore/import/file-system.ts';
import type { Node } from '../../castore/node.ts';
import { ParallelSha256 } from '../../nix/nar/parallel-sha256.ts';
import { NarWriter } from '../../nix/nar/writer.ts';
import { StorePath } from '../../nix/store-path.ts';
import { StoreError } from '../../util/errors.ts';
import { wholePathInfo } from '../keeping/whole-path-info.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import { SigningPathInfoService } from '../path-info/signing.ts';
import type { Services, Store } from '../services.ts';

export type { ImportProgress } from '../../castore/import/file-system.ts';

/** Options of an import for its caller; see `ImportOptions`. */
export type StoreImportOptions = Pick<ImportOptions, 'progress' | 'onProgress' | 'signal'>;

/**
 * Imports a tree as a store path, content-addressed by its NAR (`fixed:r:sha256`, no references), and
 * registers it. Contents and NAR hash come out of one pass. When this resolves, all of it is durable.
 *
 * Into a store that is far the tree goes only if its path info is not there yet: so it is read once to learn
 * what it is, and again to be sent.
 */
export async function importStorePath(
  store: Store,
  path: Buffer,
  name: string,
  options: StoreImportOptions = {},
): Promise<PathInfo> {
  if (!store.far) return register(store, await read(store, path, name, options), options.signal);
  const large = new Map<string, Digest>();
  const info = await read(digestOnly, path, name, {
    ...options,
    onLargeFile: (file, digest) => large.set(file, digest),
  });
  const present = await wholePathInfo(store, info.storePath.hash, options.signal);
  // What is damaged in a bucket is seen only beside what should be there.
  if (present && !store.bucket) return addsTo(store) ? store.pathInfos.put(present, options.signal) : present;
  const sent = await importPath(path, store, { ...options, known: large });
  if (!isSame(sent, info.node)) {
    throw new StoreError('FAILED_PRECONDITION', `${path}: changed while it was read; import it again`);
  }
  return register(store, info, options.signal);
}

/** Reads a tree into a target; gives its path info. */
async function read(
  target: ImportTarget,
  path: Buffer,
  name: string,
  options: ImportOptions,
): Promise<PathInfo> {
  const sha256 = new ParallelSha256();
  try {
    const nar = new NarWriter(sha256);
    const node = await importPath(path, target, { ...options, observer: nar });
    nar.finish();
    const narSha256 = await sha256.digest();
    return {
      storePath: StorePath.ofNar(name, narSha256),
      node,
      references: [],
      narSize: BigInt(nar.size),
      narSha256,
      signatures: [],
      ca: { type: 'fixed:r:sha256', digest: narSha256 },
    };
  } finally {
    sha256.close();
  }
}

/** Stores a path info when what it names is durable. Throws UNAVAILABLE when a collection has taken a part of that. */
export async function register(
  store: Services & Pick<Store, 'bucket' | 'local'>,
  info: PathInfo,
  signal?: AbortSignal,
): Promise<PathInfo> {
  // A local store puts nothing before what it refers to.
  if (!store.local) await Promise.all([store.directories.flush(), store.blobs.flush()]);
  if (store.bucket && !(await store.bucket.keep(info.node, signal)))
    throw new StoreError('UNAVAILABLE', `a collection has taken a part of ${info.storePath}: send it again`);
  return store.pathInfos.put(info, signal);
}

/** Whether putting what is there already is of use. */
function addsTo({ pathInfos }: Store): boolean {
  return pathInfos instanceof SigningPathInfoService;
}

function isSame(a: Node, b: Node): boolean {
  if (a.kind === 'symlink' || b.kind === 'symlink') {
    return a.kind === 'symlink' && b.kind === 'symlink' && Buffer.from(a.target).equals(b.target);
  }
  return a.kind === b.kind && a.digest.equals(b.digest);
}
