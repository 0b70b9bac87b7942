/** Order of two byte strings, as `memcmp` has it. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  return asBuffer(bytes).toString('hex');
}

/** One character per byte: a cheap exact key for maps. */
export function latin1(bytes: Uint8Array): string {
  return asBuffer(bytes).toString('latin1');
}

/** A Buffer over the memory of these bytes. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer
    ? bytes
    : Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Bytes for people: UTF-8 where it is that, other bytes and control characters as `\xNN`, so that a
 * file name cannot play with a terminal.
 */
export function printable(bytes: Uint8Array): string {
  const text = asBuffer(bytes).toString('utf8');
  const exact = Buffer.from(text, 'utf8').equals(bytes) ? text : asBuffer(bytes).toString('latin1');
  const limit = exact === text ? 0x9f : 0xff;
  let out = '';
  for (const character of exact) {
    const code = character.codePointAt(0)!;
    const plain = code >= 0x20 && code !== 0x7f && (code < 0x80 || code > limit) && character !== '\\';
    out += plain ? character : `\\x${code.toString(16).padStart(2, '0')}`;
  }
  return out;
}

/** Reads a stream of at most `limit` bytes whole; undefined when there are more. */
export async function collect(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  limit: number,
): Promise<Uint8Array | undefined> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of source) {
    length += part.length;
    if (length > limit) return undefined;
    parts.push(part);
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts, length);
}

/** A byte count for people, in powers of 1024. */
export function formatSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let value = bytes;
  let unit = -1;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}
