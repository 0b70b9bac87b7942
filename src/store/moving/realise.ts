import type { ExportProgress } from '../../castore/export/file-system.ts';
import { exportTree } from '../../castore/export/file-system.ts';
import { ExportFolder } from '../../castore/export/folder.ts';
import { HardLinks } from '../../castore/export/hard-links.ts';
import { ServiceTreeSource } from '../../castore/export/service-source.ts';
import { LocalTreeSource } from '../../castore/export/source.ts';
import { digestOnly } from '../../castore/import/digest-only.ts';
import { importPath } from '../../castore/import/file-system.ts';
import type { TreeObserver } from '../../castore/import/observer.ts';
import { LocalReader } from '../../castore/local/reader.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { FileNode, Node } from '../../castore/node.ts';
import { filesOf, leavesFirst } from '../../castore/walk.ts';
import { NarWriter, Sha256Sink } from '../../nix/nar/writer.ts';
import { eachOf } from '../../util/async/each-of.ts';
import { asBuffer, latin1 } from '../../util/bytes.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { Store } from '../services.ts';

export interface RealiseOptions {
  /** Equal files become links to each other. */
  readonly hardLink?: boolean;
  readonly progress?: ExportProgress;
  readonly onProgress?: () => void;
  readonly signal?: AbortSignal;
}

/** Store paths that are written at once from services that have to be waited for. */
const AT_ONCE = 4;

/**
 * Writes store paths into a directory. Each is written under a temporary name, checked against its NAR hash
 * and then named; what is there already is checked in the same way and kept. Throws FAILED_PRECONDITION when
 * something else is there.
 *
 * Nothing is synced, as with `cp`: a name is given to what is complete as long as the system runs. After a
 * power cut, running it again tells whether what is there is whole.
 */
export async function realise(
  store: Store,
  infos: readonly PathInfo[],
  directory: string,
  options: RealiseOptions = {},
): Promise<void> {
  const folder = ExportFolder.open(directory);
  try {
    folder.removeLeftovers();
    const distinct = new Map(infos.map((info) => [latin1(info.storePath.hash), info]));
    const hardLinks = options.hardLink ? new HardLinks() : undefined;
    await eachOf(distinct.values(), store.local ? 1 : AT_ONCE, options.signal, async (info, signal) => {
      await realiseOne(store, info, folder, { ...options, signal, hardLinks });
    });
  } finally {
    folder.close();
  }
}

async function realiseOne(
  store: Store,
  info: PathInfo,
  folder: ExportFolder,
  options: RealiseOptions & { hardLinks: HardLinks | undefined },
): Promise<void> {
  const name = String(info.storePath);
  if (folder.has(name)) return compare(info, folder, options);
  const place = folder.place();
  // The NAR is hashed, which says all.
  const unchecked = store.local && new LocalReader(store.local.env, { checks: false });
  const source = unchecked
    ? new LocalTreeSource(unchecked, { check: false })
    : await ServiceTreeSource.open(store, info.node, options.signal);
  const isRight = await hasNar(info, (observer) =>
    exportTree(info.node, place, source, { ...options, observer, path: folder.path(name) }),
  ).finally(() => unchecked?.close());
  if (!isRight) {
    if (store.local) await findDamage(store.local, info.node);
    throw damaged(`the store's contents of ${name} do not have the NAR hash of its path info`);
  }
  if (folder.publish(place, name)) return;
  // Somebody else was faster.
  folder.discard(place);
  await compare(info, folder, options);
}

/** Throws DATA_LOSS, and names it, for what is damaged in a tree. */
async function findDamage({ reader }: LocalStore, root: Node): Promise<void> {
  const source = new LocalTreeSource(reader);
  const read = (file: FileNode) => {
    for (const _ of source.contents(file));
  };
  if (root.kind === 'file') read(root);
  if (root.kind !== 'directory') return;
  for await (const directory of leavesFirst(root.digest, (digest) => source.directory(digest))) {
    for (const file of filesOf(directory)) read(file);
  }
}

/** Checks what is there. */
async function compare(info: PathInfo, folder: ExportFolder, { signal }: RealiseOptions): Promise<void> {
  const path = folder.path(String(info.storePath));
  const options = signal ? { signal } : {};
  const isRight = await hasNar(info, (observer) =>
    importPath(Buffer.from(path), digestOnly, { ...options, observer }),
  );
  if (isRight) return;
  throw new StoreError(
    'FAILED_PRECONDITION',
    `${path} is there, with other contents than the store's; move it away and try again`,
  );
}

/** Whether what is seen by the observer has the NAR of a path info. */
async function hasNar(info: PathInfo, walk: (observer: TreeObserver) => Promise<unknown>): Promise<boolean> {
  const sha256 = new Sha256Sink();
  const nar = new NarWriter(sha256);
  await walk(nar);
  nar.finish();
  return BigInt(nar.size) === info.narSize && asBuffer(sha256.digest()).equals(info.narSha256);
}
