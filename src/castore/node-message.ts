import { toBigInt, toLong } from '../proto/long.ts';
import type { tvix } from '../proto/messages.ts';
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
