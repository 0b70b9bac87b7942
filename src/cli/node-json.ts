import type { Node } from '../castore/node.ts';
import { asBuffer } from '../util/bytes.ts';

/** Bytes under a key of JSON. Those that are not UTF-8 come in base64, under another key, so that nothing is lost. */
export function textToJson(bytes: Uint8Array, key: string): Record<string, string> {
  const string = asBuffer(bytes).toString('utf8');
  return Buffer.from(string).equals(bytes)
    ? { [key]: string }
    : { [`${key}Base64`]: asBuffer(bytes).toString('base64') };
}

export function nodeToJson(node: Node) {
  switch (node.kind) {
    case 'directory':
      return { type: 'directory', size: Number(node.size), digest: String(node.digest) };
    case 'file':
      return {
        type: 'regular',
        size: Number(node.size),
        executable: node.executable,
        digest: String(node.digest),
      };
    case 'symlink':
      return { type: 'symlink', ...textToJson(node.target, 'target') };
  }
}
