import { createHash } from 'node:crypto';
import type { Node } from '../castore/node.ts';
import type { ContentAddress } from '../nix/content-address.ts';
import { caAlgorithm } from '../nix/content-address.ts';
import { Hash } from '../nix/hash.ts';
import type { PublicKey } from '../nix/key.ts';
import { ParallelSha256 } from '../nix/nar/parallel-sha256.ts';
import { SelfHash } from '../nix/self-hash.ts';
import { StorePath } from '../nix/store-path.ts';
import { asBuffer } from '../util/bytes.ts';
import { damaged, invalid, messageOf, StoreError } from '../util/errors.ts';
import { renderNar } from './nar/render.ts';
import type { PathDescription, PathInfo } from './path-info/path-info.ts';
import type { Contents } from './services.ts';

/** Something that hashes, beside the SHA-256 of a NAR. */
interface Hasher {
  update(bytes: Uint8Array): void;
  digest(): Uint8Array;
}

/**
 * What a path info claims of its contents and is not so, in words: length and hash of the NAR, the content
 * address, and the path that follows from it. All contents are read. Throws only when they cannot be read now.
 */
export async function contentProblems(
  contents: Contents,
  info: PathInfo,
  signal?: AbortSignal,
): Promise<string[]> {
  try {
    const { ca } = info;
    const hasher = ca && narHasher(ca, info);
    const nar = await hashNar(contents, info.node, hasher, signal);
    const problems = addressProblems(info);
    if (nar.size !== info.narSize) problems.push(`its NAR has ${nar.size} bytes, not ${info.narSize}`);
    if (!asBuffer(nar.sha256).equals(info.narSha256)) {
      const [is, claimed] = [nar.sha256, info.narSha256].map((digest) => Hash.of('sha256', digest));
      problems.push(`its NAR has the hash ${is}, not ${claimed}`);
    }
    const digest =
      ca && (hasher?.digest() ?? (await plainAddress(contents, info.node, ca, nar.sha256, signal)));
    if (digest && !asBuffer(digest).equals(ca.digest))
      problems.push(`its contents do not have the address ${ca.type}`);
    return problems;
  } catch (error) {
    const isWrong = error instanceof StoreError && ['DATA_LOSS', 'INVALID_ARGUMENT'].includes(error.code);
    if (!isWrong) throw error;
    return [messageOf(error)];
  }
}

/** What is wrong with a path info by itself: its content address must give its path. */
export function addressProblems({ storePath, references, ca }: PathDescription): string[] {
  if (!ca) return [];
  const others = references.filter((path) => path.toString() !== storePath.toString());
  try {
    const path = StorePath.ofContent(storePath.name, ca, others, others.length < references.length);
    return path.toString() === storePath.toString()
      ? []
      : [`its content address makes it ${path.absolute()}`];
  } catch (error) {
    return [messageOf(error)];
  }
}

/** Whether a signature of a path info is by one of these keys. */
export function isSignedBy(info: PathDescription, keys: readonly PublicKey[]): boolean {
  return keys.some((key) => info.signatures.some((signature) => key.verify(info, signature)));
}

/** Hashes the NAR for a content address, where its SHA-256 is not enough. */
function narHasher({ type }: ContentAddress, { storePath, references }: PathInfo): Hasher | undefined {
  if (!type.startsWith('fixed:r:')) return undefined;
  const refersToSelf = references.some((path) => path.toString() === storePath.toString());
  if (refersToSelf) return new SelfHash(caAlgorithm(type), storePath);
  return type === 'fixed:r:sha256' ? undefined : createHash(caAlgorithm(type));
}

async function hashNar(contents: Contents, root: Node, other: Hasher | undefined, signal?: AbortSignal) {
  const sha256 = new ParallelSha256();
  try {
    let size = 0n;
    for await (const part of renderNar(contents, root, { signal })) {
      size += BigInt(part.length);
      sha256.update(part);
      other?.update(part);
    }
    return { size, sha256: await sha256.digest() };
  } finally {
    sha256.close();
  }
}

/** What a content address is of, where that is the NAR's SHA-256 or a file's contents. */
async function plainAddress(
  { blobs }: Contents,
  node: Node,
  { type }: ContentAddress,
  narSha256: Uint8Array,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  if (type === 'fixed:r:sha256') return narSha256;
  if (node.kind !== 'file' || node.executable)
    throw invalid(`its content address ${type} is that of a plain file, which it is not`);
  const parts = await blobs.read(node.digest, { size: Number(node.size), signal });
  if (!parts) throw damaged(`blob ${node.digest} is missing`);
  const hash = createHash(caAlgorithm(type));
  for await (const part of parts) hash.update(part);
  return hash.digest();
}
