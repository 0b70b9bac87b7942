import type { Node } from '../castore/node.ts';
import { NarWriter, Sha256Sink } from '../nix/nar/writer.ts';
import { damaged } from '../util/errors.ts';
import type { Services } from './services.ts';

/** Size and SHA-256 of the NAR of a tree in the store. Throws DATA_LOSS when a part of it is missing. */
export async function calculateNar(
  services: Pick<Services, 'blobs' | 'directories'>,
  root: Node,
  signal?: AbortSignal,
): Promise<{ narSize: bigint; narSha256: Uint8Array }> {
  const sha256 = new Sha256Sink();
  const nar = new NarWriter(sha256);
  await writeNode(services, nar, root, signal);
  nar.finish();
  return { narSize: BigInt(nar.size), narSha256: sha256.digest() };
}

async function writeNode(
  services: Pick<Services, 'blobs' | 'directories'>,
  nar: NarWriter,
  node: Node,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  if (node.kind === 'symlink') {
    nar.symlink(node.target);
    return;
  }
  if (node.kind === 'directory') {
    const directory = await services.directories.get(node.digest, signal);
    if (!directory) throw damaged(`directory ${node.digest} is missing`);
    nar.beginDirectory();
    for (const [name, child] of directory.entries()) {
      nar.beginEntry(name);
      await writeNode(services, nar, child, signal);
      nar.endEntry();
    }
    nar.endDirectory();
    return;
  }
  const contents = await services.blobs.read(node.digest, { signal });
  if (!contents) throw damaged(`blob ${node.digest} is missing`);
  let left = node.size;
  nar.beginFile(Number(node.size), node.executable);
  for await (const part of contents) {
    left -= BigInt(part.length);
    nar.contents(part);
  }
  if (left !== 0n) throw damaged(`blob ${node.digest} has another size than ${node.size}`);
  nar.endFile();
}
