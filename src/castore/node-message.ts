import { toBigInt, toLong } from '../proto/long.ts';
import { tvix } from '../proto/messages.ts';
import { invalid } from '../util/errors.ts';
import { Digest } from './digest.ts';
import type { Node } from './node.ts';
import { parseSymlinkTarget } from './node.ts';

type Message = tvix.castore.v1.INode;

/** A node and the bytes of its name (which may be empty) from the wire. Throws INVALID_ARGUMENT. */
export function nodeFromMessage(message: Message | null | undefined): { name: Uint8Array; node: Node } {
  const { directory, file, symlink } = message ?? {};
  if (directory) {
    const digest = Digest.of(directory.digest ?? new Uint8Array());
    const node: Node = { kind: 'directory', digest, size: toBigInt(directory.size) };
    return { name: directory.name ?? new Uint8Array(), node };
  }
  if (file) {
    const digest = Digest.of(file.digest ?? new Uint8Array());
    const node: Node = {
      kind: 'file',
      digest,
      size: toBigInt(file.size),
      executable: file.executable ?? false,
    };
    return { name: file.name ?? new Uint8Array(), node };
  }
  if (symlink) {
    const node: Node = { kind: 'symlink', target: parseSymlinkTarget(symlink.target ?? new Uint8Array()) };
    return { name: symlink.name ?? new Uint8Array(), node };
  }
  throw invalid('a node is neither directory, file nor symlink');
}

export function nodeToMessage(name: Uint8Array, node: Node): Message {
  switch (node.kind) {
    case 'directory':
      return { directory: { name, digest: node.digest.bytes, size: toLong(node.size) } };
    case 'file':
      return {
        file: { name, digest: node.digest.bytes, size: toLong(node.size), executable: node.executable },
      };
    case 'symlink':
      return { symlink: { name, target: node.target } };
  }
}

/**
 * A root without a name, as the URLs of NARs have it and as it is signed: the one encoding of it, its fields in order
 * and defaults left out.
 */
export function encodeRoot(node: Node): Uint8Array {
  return tvix.castore.v1.Node.encode(rootMessage(node)).finish();
}

/** A root from its encoding. Throws INVALID_ARGUMENT for what is none, or has a name. */
export function decodeRoot(bytes: Uint8Array): Node {
  const { name, node } = nodeFromMessage(decodeNode(bytes));
  if (name.length > 0) throw invalid('a root node has no name');
  return node;
}

function decodeNode(bytes: Uint8Array): Message {
  try {
    return tvix.castore.v1.Node.decode(bytes);
  } catch (error) {
    throw invalid('not an encoded node', { cause: error });
  }
}

function rootMessage(node: Node): Message {
  switch (node.kind) {
    case 'directory':
      return { directory: { digest: node.digest.bytes, ...sizeOf(node) } };
    case 'file':
      return {
        file: {
          digest: node.digest.bytes,
          ...sizeOf(node),
          ...(node.executable ? { executable: true } : {}),
        },
      };
    case 'symlink':
      return { symlink: { target: node.target } };
  }
}

function sizeOf({ size }: { readonly size: bigint }) {
  return size === 0n ? {} : { size: toLong(size) };
}
