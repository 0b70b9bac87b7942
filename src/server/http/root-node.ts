import type { Node } from '../../castore/node.ts';
import { nodeFromMessage, nodeToMessage } from '../../castore/node-message.ts';
import { tvix } from '../../proto/messages.ts';
import { asBuffer } from '../../util/bytes.ts';
import { invalid } from '../../util/errors.ts';
import { HttpProblem } from './problem.ts';

const MAX_LENGTH = 4096;

/** A root as it stands in a URL: base-64 of an encoded node without a name. */
export function printRootNode(node: Node): string {
  const bytes = tvix.castore.v1.Node.encode(nodeToMessage(new Uint8Array(), node)).finish();
  return asBuffer(bytes).toString('base64url');
}

/** Throws 404 for what cannot name anything, and INVALID_ARGUMENT for what is too long. */
export function parseRootNode(text: string): Node {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text) throw unknown();
  if (bytes.length > MAX_LENGTH) throw invalid(`a root node has no more than ${MAX_LENGTH} bytes`);
  const { name, node } = decode(bytes);
  if (name.length > 0) throw unknown();
  return node;
}

function decode(bytes: Uint8Array) {
  try {
    return nodeFromMessage(tvix.castore.v1.Node.decode(bytes));
  } catch (error) {
    throw unknown(error);
  }
}

function unknown(cause?: unknown): HttpProblem {
  return new HttpProblem(404, 'there is no such root node', {}, { cause });
}
