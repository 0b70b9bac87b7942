import { compareBytes } from '../util/bytes.ts';
import { invalid } from '../util/errors.ts';
import { DIGEST_LENGTH } from './digest.ts';
import type { Name, Node } from './node.ts';
import { nameProblem, targetProblem } from './node.ts';

/**
 * Wire form of `Directory` (protos/tvix/castore/v1/castore.proto), written by hand: the digest of a
 * directory is taken over these very bytes, and the mount reads entries in place, without an object
 * for each.
 */

/** Kinds of entries; also the field numbers of the lists. */
export const KIND = { directory: 1, file: 2, symlink: 3 } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

/** Numbers an entry takes in a table: see `entryTable`. */
export const STRIDE = 7;
/** Columns of an entry: offsets into the encoded bytes, except the last three. */
export const COLUMN = {
  nameStart: 0,
  nameEnd: 1,
  valueStart: 2,
  valueEnd: 3,
  sizeLow: 4,
  sizeHigh: 5,
  kind: 6,
};
/** Set in the kind column of an executable file. */
export const EXECUTABLE = 0x100;

/**
 * The entries of an encoded directory, `STRIDE` numbers each, in the order of the encoding. `value` is the
 * digest, or a link's target. `canonical` says that the bytes are what `encodeEntries` would produce.
 * Throws INVALID_ARGUMENT for anything that is no valid directory but for the order of names.
 */
export function entryTable(bytes: Uint8Array): { table: Uint32Array; canonical: boolean } {
  const count = countFields(bytes);
  const table = new Uint32Array(count * STRIDE);
  const reader = new FieldReader(bytes);
  let canonical = true;
  let row = 0;
  let lastField = 0;
  while (reader.next(bytes.length)) {
    const field = reader.field;
    if (field < KIND.directory || field > KIND.symlink) {
      canonical = false;
      continue;
    }
    if (reader.wireType !== 2) throw invalid('invalid directory: a list of entries has the wrong wire type');
    if (field < lastField) canonical = false;
    lastField = field;
    const end = reader.end;
    reader.position = reader.start;
    if (!readEntry(reader, end, field as Kind, table, row)) canonical = false;
    reader.position = end;
    row += STRIDE;
  }
  return {
    table: row === table.length ? table : table.subarray(0, row),
    canonical: canonical && reader.minimal,
  };
}

function countFields(bytes: Uint8Array): number {
  const reader = new FieldReader(bytes);
  let count = 0;
  while (reader.next(bytes.length)) count++;
  return count;
}

/** Reads one node message into its row; false when it is valid but not canonical. */
function readEntry(reader: FieldReader, end: number, kind: Kind, table: Uint32Array, row: number): boolean {
  let canonical = true;
  let last = 0;
  let flags = 0;
  while (reader.next(end)) {
    const field = reader.field;
    const isBytes = reader.wireType === 2;
    if (field <= last) canonical = false;
    last = field;
    if (field === 1 && isBytes) {
      table[row + COLUMN.nameStart] = reader.start;
      table[row + COLUMN.nameEnd] = reader.end;
    } else if (field === 2 && isBytes) {
      table[row + COLUMN.valueStart] = reader.start;
      table[row + COLUMN.valueEnd] = reader.end;
    } else if (field === 3 && !isBytes && reader.wireType === 0 && kind !== KIND.symlink) {
      table[row + COLUMN.sizeLow] = reader.low;
      table[row + COLUMN.sizeHigh] = reader.high;
      if (reader.low === 0 && reader.high === 0) canonical = false;
    } else if (field === 4 && reader.wireType === 0 && kind === KIND.file) {
      flags = reader.low !== 0 || reader.high !== 0 ? EXECUTABLE : 0;
      if (reader.low !== 1 || reader.high !== 0) canonical = false;
    } else if (field <= 2 || (field === 3 && kind !== KIND.symlink) || (field === 4 && kind === KIND.file)) {
      throw invalid(`invalid directory: field ${field} of an entry has the wrong wire type`);
    } else {
      canonical = false;
    }
  }
  table[row + COLUMN.kind] = kind | flags;
  checkEntry(reader.bytes, table, row, kind);
  return canonical;
}

function checkEntry(bytes: Uint8Array, table: Uint32Array, row: number, kind: Kind): void {
  const name = nameProblem(bytes, table[row + COLUMN.nameStart]!, table[row + COLUMN.nameEnd]!);
  if (name) throw invalid(`invalid directory: a name is invalid: ${name}`);
  const start = table[row + COLUMN.valueStart]!;
  const end = table[row + COLUMN.valueEnd]!;
  if (kind === KIND.symlink) {
    const target = targetProblem(bytes, start, end);
    if (target) throw invalid(`invalid directory: a symlink target is invalid: ${target}`);
  } else if (end - start !== DIGEST_LENGTH) {
    throw invalid(`invalid directory: invalid digest length: ${end - start}, want ${DIGEST_LENGTH}`);
  }
}

/** Steps through the fields of a protobuf message, with every length checked against what is there. */
class FieldReader {
  readonly bytes: Uint8Array;
  position = 0;
  field = 0;
  wireType = 0;
  /** Extent of a length-delimited field. */
  start = 0;
  end = 0;
  /** Value of a varint field. */
  low = 0;
  high = 0;
  /** Whether every varint so far took as few bytes as it could. */
  minimal = true;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Reads the next field before `limit` and moves behind it; false at the limit. */
  next(limit: number): boolean {
    if (this.position >= limit) return false;
    this.#varint(limit);
    this.field = ((this.low >>> 3) | (this.high << 29)) >>> 0;
    this.wireType = this.low & 7;
    if (this.field === 0 || this.high !== 0) throw invalid('invalid protobuf: bad field number');
    if (this.wireType === 0) {
      this.#varint(limit);
    } else if (this.wireType === 2) {
      this.#varint(limit);
      if (this.high !== 0 || this.low > limit - this.position) throw invalid('invalid protobuf: truncated');
      this.start = this.position;
      this.end = this.position + this.low;
      this.position = this.end;
    } else if (this.wireType === 1 || this.wireType === 5) {
      this.position += this.wireType === 1 ? 8 : 4;
      if (this.position > limit) throw invalid('invalid protobuf: truncated');
    } else {
      throw invalid(`invalid protobuf: unexpected wire type ${this.wireType}`);
    }
    return true;
  }

  #varint(limit: number): void {
    const first = this.position;
    let low = 0;
    let high = 0;
    for (let shift = 0; ; shift += 7) {
      if (this.position >= limit) throw invalid('invalid protobuf: truncated');
      const byte = this.bytes[this.position++]!;
      const part = byte & 0x7f;
      if (shift < 28) low |= part << shift;
      else if (shift === 28) {
        low |= part << 28;
        high |= part >>> 4;
      } else if (shift < 63) high |= part << (shift - 32);
      else if (part <= 1) high |= part << 31;
      else throw invalid('invalid protobuf: a number is too large');
      if (byte < 0x80) {
        if (part === 0 && this.position - first > 1) this.minimal = false;
        break;
      }
      if (shift >= 63) throw invalid('invalid protobuf: a number is too long');
    }
    this.low = low >>> 0;
    this.high = high >>> 0;
  }
}

/** Encodes entries canonically; they are sorted here. Throws INVALID_ARGUMENT for a name that occurs twice. */
export function encodeEntries(entries: Iterable<readonly [Name, Node]>): Uint8Array {
  const sorted = [...entries].sort(([a], [b]) => compareBytes(a, b));
  for (let i = 1; i < sorted.length; i++) {
    if (compareBytes(sorted[i - 1]![0], sorted[i]![0]) === 0)
      throw invalid('a name occurs twice in a directory');
  }
  let total = 0;
  for (const [name, node] of sorted) {
    const body = bodyLength(name, node);
    total += 1 + varintLength(BigInt(body)) + body;
  }
  const out = Buffer.allocUnsafe(total);
  let at = 0;
  for (const kind of ['directory', 'file', 'symlink'] as const) {
    for (const [name, node] of sorted) if (node.kind === kind) at = writeEntry(out, at, name, node);
  }
  return out;
}

function bodyLength(name: Name, node: Node): number {
  const value = node.kind === 'symlink' ? node.target.length : DIGEST_LENGTH;
  let length = 2 + varintLength(BigInt(name.length)) + name.length + varintLength(BigInt(value)) + value;
  if (node.kind !== 'symlink' && node.size > 0n) length += 1 + varintLength(node.size);
  if (node.kind === 'file' && node.executable) length += 2;
  return length;
}

function writeEntry(out: Buffer, start: number, name: Name, node: Node): number {
  let at = start;
  out[at++] = (KIND[node.kind] << 3) | 2;
  at = writeVarint(out, at, BigInt(bodyLength(name, node)));
  at = writeBytes(out, at, 1, name);
  at = writeBytes(out, at, 2, node.kind === 'symlink' ? node.target : node.digest.bytes);
  if (node.kind !== 'symlink' && node.size > 0n) {
    out[at++] = 3 << 3;
    at = writeVarint(out, at, node.size);
  }
  if (node.kind === 'file' && node.executable) {
    out[at++] = 4 << 3;
    out[at++] = 1;
  }
  return at;
}

function writeBytes(out: Buffer, start: number, field: number, bytes: Uint8Array): number {
  let at = start;
  out[at++] = (field << 3) | 2;
  at = writeVarint(out, at, BigInt(bytes.length));
  out.set(bytes, at);
  return at + bytes.length;
}

function varintLength(value: bigint): number {
  if (value < 0x80n) return 1;
  let length = 1;
  for (let rest = value >> 7n; rest > 0n; rest >>= 7n) length++;
  return length;
}

function writeVarint(out: Buffer, start: number, value: bigint): number {
  let at = start;
  let rest = value;
  while (rest >= 0x80n) {
    out[at++] = Number(rest & 0x7fn) | 0x80;
    rest >>= 7n;
  }
  out[at++] = Number(rest);
  return at;
}
