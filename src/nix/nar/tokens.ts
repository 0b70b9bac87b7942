/**
 * The wire form of a NAR: strings, each a 64-bit little-endian length, the bytes, and zeros up to a
 * multiple of 8. Runs of strings that always stand together are kept as one token.
 */
export function narString(bytes: Uint8Array): Buffer {
  const out = Buffer.alloc(8 + bytes.length + paddingLength(bytes.length));
  out.writeUInt32LE(bytes.length, 0);
  out.set(bytes, 8);
  return out;
}

/** Zeros that follow contents of this length. */
export function paddingLength(length: number): number {
  return -length & 7;
}

function token(...strings: string[]): Buffer {
  return Buffer.concat(strings.map((text) => narString(Buffer.from(text, 'latin1'))));
}

export const MAGIC = token('nix-archive-1');
export const DIRECTORY = token('(', 'type', 'directory');
export const ENTRY = token('entry', '(', 'name');
export const NODE = token('node');
export const CLOSE = token(')');
export const REGULAR = token('(', 'type', 'regular');
export const EXECUTABLE = token('executable', '');
export const CONTENTS = token('contents');
export const SYMLINK = token('(', 'type', 'symlink', 'target');
