import type { Node } from '../../../castore/node.ts';
import { damaged } from '../../../util/errors.ts';
import type { Services } from '../../services.ts';

/** Brings what a store lacks of a path from another one. False when that does not have the path. */
export async function restorePath(from: Services, to: Services, hash: Uint8Array): Promise<boolean> {
  const info = await from.pathInfos.get(hash);
  if (!info) return false;
  await restoreNode(from, to, info.node);
  await to.directories.flush();
  await to.blobs.flush();
  // One that is there stays as it is: it may have signatures of its own.
  if (!(await to.pathInfos.get(hash).catch(() => undefined))) await to.pathInfos.put(info);
  return true;
}

async function restoreNode(from: Services, to: Services, node: Node): Promise<void> {
  if (node.kind === 'symlink') return;
  if (node.kind === 'file') {
    const size = Number(node.size);
    if (await to.blobs.has(node.digest, { size })) return;
    const contents = await from.blobs.read(node.digest, { size });
    if (!contents) throw damaged(`blob ${node.digest} is missing there too`);
    const { digest } = await to.blobs.put(contents);
    if (!digest.equals(node.digest)) throw damaged(`the contents of blob ${node.digest} are wrong there`);
    return;
  }
  const present = await to.directories.get(node.digest).catch(() => undefined);
  const directory = present ?? (await from.directories.get(node.digest));
  if (!directory?.digest.equals(node.digest)) throw damaged(`directory ${node.digest} is missing there too`);
  for (const [, child] of directory.entries()) await restoreNode(from, to, child);
  if (!present) await to.directories.put(directory);
}
