import { asBuffer, printable } from '../util/bytes.ts';
import { invalid } from '../util/errors.ts';
import { Digest } from './digest.ts';
import type { Kind } from './directory-codec.ts';
import { COLUMN, EXECUTABLE, encodeEntries, entryTable, KIND, STRIDE } from './directory-codec.ts';
import type { Name, Node, SymlinkTarget } from './node.ts';

const U64_MAX = (1n << 64n) - 1n;

/** The encoding of a directory, the table of its entries, and their rows in the order of names. */
export interface DirectoryIndex {
  readonly bytes: Uint8Array;
  readonly table: Uint32Array;
  readonly order: Uint32Array;
}

/**
 * A directory: its canonical encoding, and an index of its entries in the order of their names. An
 * invalid one cannot exist. Entries are read in place; `node(i)` makes a value of one when somebody
 * wants that.
 */
export class Directory {
  /** The canonical encoding. Not to be changed. */
  readonly bytes: Uint8Array;
  readonly #table: Uint32Array;
  /** Row offsets in the order of names, across the three kinds. */
  readonly #order: Uint32Array;
  #digest: Digest | undefined;

  private constructor(bytes: Uint8Array, table: Uint32Array, order = mergedOrder(bytes, table)) {
    this.bytes = bytes;
    this.#table = table;
    this.#order = order;
  }

  /** A directory that has been decoded elsewhere. */
  static indexed({ bytes, table, order }: DirectoryIndex): Directory {
    return new Directory(bytes, table, order);
  }

  /** What a directory is made of, for `indexed`. */
  get index(): DirectoryIndex {
    return { bytes: this.bytes, table: this.#table, order: this.#order };
  }

  /**
   * Reads an encoded directory. Unknown fields and odd encodings are dropped: the result is canonical.
   * Throws INVALID_ARGUMENT for bad names, digests or targets, for lists that are not strictly ascending,
   * names that occur twice, and sizes whose sum exceeds 64 bits.
   */
  static decode(bytes: Uint8Array): Directory {
    const { table, canonical } = entryTable(bytes);
    const directory = new Directory(bytes, table);
    directory.#checkSize();
    return canonical ? directory : Directory.of(directory.entries());
  }

  /** A directory of these entries, in any order. Throws INVALID_ARGUMENT for a name that occurs twice. */
  static of(entries: Iterable<readonly [Name, Node]>): Directory {
    const bytes = encodeEntries(entries);
    const directory = new Directory(bytes, entryTable(bytes).table);
    directory.#checkSize();
    return directory;
  }

  get digest(): Digest {
    this.#digest ??= Digest.hash(this.bytes);
    return this.#digest;
  }

  /** Number of entries. */
  get length(): number {
    return this.#order.length;
  }

  /**
   * Number of elements below this directory as every tvix and snix since July 2024 counts it: two for
   * each entry, plus the sizes of the directories among them.
   */
  get size(): bigint {
    return 2n * BigInt(this.length) + this.#childSizes();
  }

  /** Whether a parent may claim this size: the counting in use, or the documented one (one an entry). */
  acceptsSize(size: bigint): boolean {
    return this.sizeCheck()(size);
  }

  /** `acceptsSize` as a function that does not keep the directory in memory. */
  sizeCheck(): (size: bigint) => boolean {
    const inUse = this.size;
    const documented = inUse - BigInt(this.length);
    return (size) => size === inUse || size === documented;
  }

  #childSizes(): bigint {
    let sum = 0n;
    for (let row = 0; row < this.#table.length; row += STRIDE) {
      if ((this.#table[row + COLUMN.kind]! & 0xff) !== KIND.directory) continue;
      sum += this.#bigSize(row);
    }
    return sum;
  }

  #checkSize(): void {
    if (this.#childSizes() + BigInt(this.length) > U64_MAX)
      throw invalid('invalid directory: its size overflows');
  }

  #bigSize(row: number): bigint {
    const high = this.#table[row + COLUMN.sizeHigh]!;
    const low = BigInt(this.#table[row + COLUMN.sizeLow]!);
    return high === 0 ? low : low | (BigInt(high) << 32n);
  }

  #row(index: number): number {
    return this.#order[index]!;
  }

  kind(index: number): Kind {
    return (this.#table[this.#row(index) + COLUMN.kind]! & 0xff) as Kind;
  }

  executable(index: number): boolean {
    return (this.#table[this.#row(index) + COLUMN.kind]! & EXECUTABLE) !== 0;
  }

  /** Where the name lies in `bytes`. */
  nameStart(index: number): number {
    return this.#table[this.#row(index) + COLUMN.nameStart]!;
  }

  nameEnd(index: number): number {
    return this.#table[this.#row(index) + COLUMN.nameEnd]!;
  }

  /** Where the digest, or a link's target, lies in `bytes`. */
  valueStart(index: number): number {
    return this.#table[this.#row(index) + COLUMN.valueStart]!;
  }

  valueEnd(index: number): number {
    return this.#table[this.#row(index) + COLUMN.valueEnd]!;
  }

  /** The size of a file or directory as a number; exact up to 2^53. */
  sizeNumber(index: number): number {
    const row = this.#row(index);
    return this.#table[row + COLUMN.sizeHigh]! * 0x1_0000_0000 + this.#table[row + COLUMN.sizeLow]!;
  }

  name(index: number): Name {
    return this.bytes.subarray(this.nameStart(index), this.nameEnd(index)) as Name;
  }

  node(index: number): Node {
    const value = this.bytes.subarray(this.valueStart(index), this.valueEnd(index));
    const kind = this.kind(index);
    if (kind === KIND.symlink) return { kind: 'symlink', target: value as SymlinkTarget };
    const digest = Digest.of(value);
    const size = this.#bigSize(this.#row(index));
    if (kind === KIND.directory) return { kind: 'directory', digest, size };
    return { kind: 'file', digest, size, executable: this.executable(index) };
  }

  /** All entries in the order of their names. */
  *entries(): Generator<[Name, Node]> {
    for (let i = 0; i < this.length; i++) yield [this.name(i), this.node(i)];
  }

  /** The child directories, each with what this directory claims about it. */
  *children(): Generator<{ digest: Digest; size: bigint }> {
    for (let i = 0; i < this.length; i++) {
      if (this.kind(i) !== KIND.directory) continue;
      yield {
        digest: Digest.of(this.bytes.subarray(this.valueStart(i), this.valueEnd(i))),
        size: this.#bigSize(this.#row(i)),
      };
    }
  }

  /** Index of the entry named `source[start, end)`, or -1. */
  find(source: Uint8Array, start = 0, end = source.length): number {
    let low = 0;
    let high = this.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const order = compareNames(
        source,
        start,
        end,
        this.bytes,
        this.nameStart(middle),
        this.nameEnd(middle),
      );
      if (order === 0) return middle;
      if (order < 0) high = middle - 1;
      else low = middle + 1;
    }
    return -1;
  }
}

function compareNames(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const length = Math.min(aEnd - aStart, bEnd - bStart);
  for (let i = 0; i < length; i++) {
    const difference = a[aStart + i]! - b[bStart + i]!;
    if (difference !== 0) return difference;
  }
  return aEnd - aStart - (bEnd - bStart);
}

/** Merges the three lists, each of which must be strictly ascending, by name. */
function mergedOrder(bytes: Uint8Array, table: Uint32Array): Uint32Array {
  const lists: Record<Kind, number[]> = { 1: [], 2: [], 3: [] };
  const compareRows = (a: number, b: number) =>
    compareNames(
      bytes,
      table[a + COLUMN.nameStart]!,
      table[a + COLUMN.nameEnd]!,
      bytes,
      table[b + COLUMN.nameStart]!,
      table[b + COLUMN.nameEnd]!,
    );
  const nameOf = (row: number) =>
    JSON.stringify(
      printable(asBuffer(bytes).subarray(table[row + COLUMN.nameStart]!, table[row + COLUMN.nameEnd]!)),
    );
  for (let row = 0; row < table.length; row += STRIDE) {
    const list = lists[(table[row + COLUMN.kind]! & 0xff) as Kind];
    const order = list.length === 0 ? -1 : compareRows(list[list.length - 1]!, row);
    if (order === 0) throw invalid(`invalid directory: the name ${nameOf(row)} occurs twice`);
    if (order > 0) throw invalid(`invalid directory: ${nameOf(row)} is not in order`);
    list.push(row);
  }
  const order = new Uint32Array(table.length / STRIDE);
  const next: Record<Kind, number> = { 1: 0, 2: 0, 3: 0 };
  for (let i = 0; i < order.length; i++) {
    let best: Kind | undefined;
    for (const kind of [KIND.directory, KIND.file, KIND.symlink] as const) {
      if (next[kind] === lists[kind].length) continue;
      const difference = best ? compareRows(lists[kind][next[kind]]!, lists[best][next[best]]!) : -1;
      if (difference === 0)
        throw invalid(`invalid directory: the name ${nameOf(lists[kind][next[kind]]!)} occurs twice`);
      if (difference < 0) best = kind;
    }
    order[i] = lists[best!][next[best!]++]!;
  }
  return order;
}
