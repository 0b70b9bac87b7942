import type { Node } from '../../castore/node.ts';
import { decodeRoot, encodeRoot } from '../../castore/node-message.ts';
import { asBuffer } from '../../util/bytes.ts';
import { invalid } from '../../util/errors.ts';
import { HttpProblem } from './problem.ts';

const MAX_LENGTH = 4096;

/** A root as it stands in a URL: base-64 of an encoded node without a name. */
export function printRootNode(node: Node): string {
  return asBuffer(encodeRoot(node)).toString('base64url');
}

/** Throws 404 for what cannot name anything, and INVALID_ARGUMENT for what is too long. */
export function parseRootNode(text: string): Node {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text) throw unknown();
  if (bytes.length > MAX_LENGTH) throw invalid(`a root node has no more than ${MAX_LENGTH} bytes`);
  try {
    return decodeRoot(bytes);
  } catch (error) {
    throw unknown(error);
  }
}

function unknown(cause?: unknown): HttpProblem {
  return new HttpProblem(404, 'there is no such root node', {}, { cause });
}
