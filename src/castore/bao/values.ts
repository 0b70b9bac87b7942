import type { HashMany } from './kernel.ts';
import { BLOCK_LENGTH, makeKernel } from './kernel.ts';
import { GROUP_LENGTH, PARENT_LENGTH, VALUE_LENGTH } from './shape.ts';

/** BLAKE3's leaves, in bytes. */
const CHUNK_LENGTH = 1024;
const CHUNKS_PER_GROUP = GROUP_LENGTH / CHUNK_LENGTH;
/** Groups that go into WebAssembly at once: with four, the parents inside them fill its four lanes, too. */
const GROUPS_AT_ONCE = 4;
const CHUNKS_AT_ONCE = GROUPS_AT_ONCE * CHUNKS_PER_GROUP;
export const BATCH_LENGTH = GROUPS_AT_ONCE * GROUP_LENGTH;

const CHUNK_START = 1;
const CHUNK_END = 2;
const PARENT = 4;
const ROOT = 8;

/** Inputs are hashed by fours, so up to three more are read and written than there are. */
const INPUT = 0;
const VALUES = BATCH_LENGTH + 4 * CHUNK_LENGTH;
const VALUES_LENGTH = (CHUNKS_AT_ONCE + 4) * VALUE_LENGTH;
const NEXT_VALUES = VALUES + VALUES_LENGTH;
const MEMORY = NEXT_VALUES + VALUES_LENGTH;

let made: { readonly memory: Uint8Array; readonly hashMany: HashMany } | undefined;
const kernel = () => {
  made ??= makeKernel(MEMORY);
  return made;
};

/**
 * The chaining values of the groups that `bytes` are, one behind the other; `first` is the number of the first one in
 * its blob, and only the last may be shorter. For blobs of more than one group: one group alone is a whole blob, whose
 * digest is the only value there is.
 */
export function groupValues(bytes: Uint8Array, first: number): Uint8Array {
  const values = new Uint8Array(Math.ceil(bytes.length / GROUP_LENGTH) * VALUE_LENGTH);
  for (let at = 0; at < bytes.length; at += BATCH_LENGTH) {
    const batch = bytes.subarray(at, at + BATCH_LENGTH);
    const group = at / GROUP_LENGTH;
    values.set(batchValues(batch, (first + group) * CHUNKS_PER_GROUP), group * VALUE_LENGTH);
  }
  return values;
}

/** The chaining value of a parent, given those of its children; `isRoot` of the topmost, whose value is the digest. */
export function parentValue(children: Uint8Array, isRoot: boolean): Uint8Array {
  const { memory } = kernel();
  memory.set(children, INPUT);
  hashParents(INPUT, VALUES, 1, isRoot);
  return memory.slice(VALUES, VALUES + VALUE_LENGTH);
}

/** The values of a level of a tree, given those of the one below it. One without a partner goes up as it is. */
export function valuesAbove(values: Uint8Array): Uint8Array {
  const { memory } = kernel();
  const count = values.length / VALUE_LENGTH;
  const above = new Uint8Array(Math.ceil(count / 2) * VALUE_LENGTH);
  for (let at = 0; at < count; at += CHUNKS_AT_ONCE) {
    const part = values.subarray(at * VALUE_LENGTH, (at + CHUNKS_AT_ONCE) * VALUE_LENGTH);
    memory.set(part, VALUES);
    const left = pairUp(VALUES, NEXT_VALUES, part.length / VALUE_LENGTH);
    above.set(memory.subarray(NEXT_VALUES, NEXT_VALUES + left * VALUE_LENGTH), (at / 2) * VALUE_LENGTH);
  }
  return above;
}

/** A view of the kernel's memory, valid until it is used again. */
function batchValues(bytes: Uint8Array, firstChunk: number): Uint8Array {
  const { memory } = kernel();
  memory.set(bytes, INPUT);
  const whole = Math.floor(bytes.length / CHUNK_LENGTH);
  if (whole > 0) hashChunks(0, whole, CHUNK_LENGTH, firstChunk);
  const rest = bytes.length % CHUNK_LENGTH;
  if (rest > 0) hashChunks(whole, 1, rest, firstChunk);
  let count = Math.ceil(bytes.length / CHUNK_LENGTH);
  let from = VALUES;
  let to = NEXT_VALUES;
  for (let covered = 1; covered < CHUNKS_PER_GROUP && count > 1; covered *= 2) {
    count = pairUp(from, to, count);
    [from, to] = [to, from];
  }
  return memory.subarray(from, from + count * VALUE_LENGTH);
}

/** Writes the values above so many others, and gives how many those are. */
function pairUp(from: number, to: number, count: number): number {
  const pairs = count >> 1;
  if (pairs > 0) hashParents(from, to, pairs, false);
  if (count % 2 === 1) {
    const single = from + (count - 1) * VALUE_LENGTH;
    kernel().memory.copyWithin(to + pairs * VALUE_LENGTH, single, single + VALUE_LENGTH);
  }
  return count - pairs;
}

function hashParents(from: number, to: number, count: number, isRoot: boolean): void {
  const end = isRoot ? ROOT : 0;
  kernel().hashMany(from, to, Math.ceil(count / 4), PARENT_LENGTH, 1, BLOCK_LENGTH, 0, 0, 0, PARENT, end);
}

/** Hashes chunks of the input, `length` bytes each, into `VALUES`. */
function hashChunks(index: number, count: number, length: number, firstChunk: number): void {
  const { memory, hashMany } = kernel();
  const at = INPUT + index * CHUNK_LENGTH;
  const blocks = Math.ceil(length / BLOCK_LENGTH);
  if (length < CHUNK_LENGTH) memory.fill(0, at + length, at + blocks * BLOCK_LENGTH);
  const counter = firstChunk + index;
  hashMany(
    at,
    VALUES + index * VALUE_LENGTH,
    Math.ceil(count / 4),
    CHUNK_LENGTH,
    blocks,
    length - (blocks - 1) * BLOCK_LENGTH,
    counter | 0,
    counter / 2 ** 32,
    1,
    CHUNK_START,
    CHUNK_END,
  );
}
