import type { Directory } from '../castore/directory.ts';
import { KIND } from '../castore/directory-codec.ts';
import type { Node } from '../castore/node.ts';
import { RECORD } from './node-record.ts';
import type { NodeDescription } from './node-table.ts';

const NO_BYTES = new Uint8Array(32);

/** Describes a node for the node table. */
export function describeNode(node: Node): NodeDescription {
  if (node.kind === 'symlink') {
    return {
      kind: RECORD.symlink,
      executable: false,
      size: node.target.length,
      bytes: NO_BYTES,
      digestStart: 0,
    };
  }
  return {
    kind: node.kind === 'directory' ? RECORD.directory : RECORD.file,
    executable: node.kind === 'file' && node.executable,
    size: Number(node.size),
    bytes: node.digest.bytes,
    digestStart: 0,
  };
}

/** Describes an entry of a directory, read in place. */
export function describeEntry(directory: Directory, index: number): NodeDescription {
  const kind = directory.kind(index);
  const start = directory.valueStart(index);
  const isLink = kind === KIND.symlink;
  return {
    kind,
    executable: directory.executable(index),
    size: isLink ? directory.valueEnd(index) - start : directory.sizeNumber(index),
    bytes: directory.bytes,
    digestStart: start,
  };
}
