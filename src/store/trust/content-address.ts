import { createHash } from 'node:crypto';
import type { Node } from '../../castore/node.ts';
import type { ContentAddress } from '../../nix/content-address.ts';
import { caAlgorithm } from '../../nix/content-address.ts';
import { SelfHash } from '../../nix/self-hash.ts';
import { StorePath } from '../../nix/store-path.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import { renderNar } from '../nar/render.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import type { Contents } from '../services.ts';

/** Whether the store path follows from the content address. What the contents are is another matter. */
export function isAddressOfPath({ storePath, references, ca }: PathDescription): boolean {
  if (!ca) return false;
  const others = references.filter((path) => path.toString() !== storePath.toString());
  try {
    const made = StorePath.ofContent(storePath.name, ca, others, others.length < references.length);
    return asBuffer(made.hash).equals(storePath.hash);
  } catch {
    // A path of this kind cannot have such references.
    return false;
  }
}

/** Whether a path refers to itself: the address of its contents then leaves out where they do. */
export function refersToItself({
  storePath,
  references,
}: Pick<PathDescription, 'storePath' | 'references'>): boolean {
  return references.some((path) => asBuffer(path.hash).equals(storePath.hash));
}

/** Whether the contents of a path are those of its content address. */
export async function hasContentAddress(
  contents: Contents,
  info: Pick<PathInfo, 'node' | 'narSha256' | 'storePath' | 'references'>,
  { type, digest }: ContentAddress,
  signal?: AbortSignal,
): Promise<boolean> {
  const self = refersToItself(info);
  if (type === 'fixed:r:sha256' && !self) return asBuffer(info.narSha256).equals(digest);
  const parts = type.startsWith('fixed:r:')
    ? renderNar(contents, info.node, { signal })
    : await fileContents(contents, info.node, signal);
  if (!parts) return false;
  const hash = self ? new SelfHash(caAlgorithm(type), info.storePath) : createHash(caAlgorithm(type));
  for await (const part of parts) hash.update(part);
  const digests = hash instanceof SelfHash ? hash.digests() : [hash.digest()];
  return digests.some((found) => found.equals(digest));
}

/** `undefined` for what is no plain file: its hash says nothing of anything else. */
async function fileContents({ blobs }: Contents, node: Node, signal: AbortSignal | undefined) {
  if (node.kind !== 'file' || node.executable) return undefined;
  const contents = await blobs.read(node.digest, { signal });
  if (!contents) throw damaged(`blob ${node.digest} is missing`);
  return contents;
}
