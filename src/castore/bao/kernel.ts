import type { Code, Local } from './wasm.ts';
import { get, i32, instantiate, Locals, moduleOf, repeat, set, v128 } from './wasm.ts';

/**
 * BLAKE3's compression of four inputs at once, in WebAssembly: a vector holds the same word of all four. The code is
 * written by loops over rounds and words when it is first needed, which takes some milliseconds.
 */

/** The bytes of a block, the unit of compression. */
export const BLOCK_LENGTH = 64;

/** The inputs that are hashed at once. */
const ALL = [0, 1, 2, 3] as const;
const IV = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
] as const;
const ROUNDS = 7;
/** Where the words of a block stand in the next round. */
const PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8] as const;
/** What is mixed with each other: the columns of the state, seen as four by four words, then the diagonals. */
const COLUMNS = ALL.map((i) => [i, 4 + i, 8 + i, 12 + i] as const);
const DIAGONALS = ALL.map((i) => [i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4)] as const);

/** Parameters of the function, see `HashMany`. */
const [INPUT, OUTPUT, FOURS, STRIDE, BLOCKS, LAST_LENGTH, COUNTER, COUNTER_HIGH, STEP, START, END] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
] as const;

/**
 * Writes the chaining values, of 32 bytes, of `4 * fours` inputs to `output`. The inputs begin `stride` bytes apart and
 * have as many blocks each, of which the last one has `lastLength` bytes, and zeros behind these.
 *
 * The first has the counter that is given in two halves, and each the one before's and `step`, which may be 0; the lower
 * half must not overflow. The first block of each gets the flags `start`, the last one `end`.
 */
export type HashMany = (
  input: number,
  output: number,
  fours: number,
  stride: number,
  blocks: number,
  lastLength: number,
  counter: number,
  counterHigh: number,
  step: number,
  start: number,
  end: number,
) => void;

/** The function with memory of its own, of so many bytes. */
export function makeKernel(bytes: number): { readonly memory: Uint8Array; readonly hashMany: HashMany } {
  const { memory, run } = instantiate(moduleOf(bytes, hashMany()));
  return { memory, hashMany: run as HashMany };
}

function hashMany() {
  const locals = new Locals(END + 1);
  const left = locals.i32();
  const isLast = locals.i32();
  const flags = locals.i32();
  const blocks = ALL.map(() => locals.i32());
  const counter = locals.v128();
  const chaining = locals.v128s(8);
  const state = locals.v128s(16);
  const message = locals.v128s(16);
  const spare = locals.v128s(4);
  const places = [locals.v128(), locals.v128()] as const;
  const startWith = (values: readonly Local[]): Code =>
    values.flatMap((value, i) => set(value, v128.splat(i32.const(IV[i]!))));
  const advance = (local: Local, by: Code): Code => set(local, i32.add(get(local), by));

  const compress: Code = [
    ...set(isLast, i32.equal(get(left), i32.const(1))),
    ...quarters(message).flatMap((words, quarter) => [
      ...words.flatMap((word, lane) => set(word, v128.load(get(blocks[lane]!), 16 * quarter))),
      ...transpose(words, spare),
    ]),
    ...chaining.flatMap((value, i) => set(state[i]!, get(value))),
    ...startWith(state.slice(8, 12)),
    ...set(state[12]!, get(counter)),
    ...set(state[13]!, v128.splat(get(COUNTER_HIGH))),
    ...set(state[14]!, v128.splat(i32.select(get(isLast), get(LAST_LENGTH), i32.const(BLOCK_LENGTH)))),
    ...set(state[15]!, v128.splat(i32.or(get(flags), i32.select(get(isLast), get(END), i32.const(0))))),
    ...rounds(state, message, places),
    ...chaining.flatMap((value, i) => set(value, v128.xor(get(state[i]!), get(state[8 + i]!)))),
    ...set(flags, i32.const(0)),
    ...blocks.flatMap((block) => advance(block, i32.const(BLOCK_LENGTH))),
  ];
  const four: Code = [
    ...startWith(chaining),
    ...set(flags, get(START)),
    ...blocks.flatMap((block) => [...set(block, get(INPUT)), ...advance(INPUT, get(STRIDE))]),
    ...set(left, get(BLOCKS)),
    ...repeat(left, compress),
    ...quarters(chaining).flatMap((words, half) => [
      ...transpose(words, spare),
      ...words.flatMap((word, lane) => v128.store(get(OUTPUT), 32 * lane + 16 * half, get(word))),
    ]),
    ...advance(OUTPUT, i32.const(32 * ALL.length)),
    ...set(counter, v128.add(get(counter), v128.shiftLeft(v128.splat(get(STEP)), 2))),
  ];
  const steps = v128.multiply(v128.splat(get(STEP)), v128.const(ALL));
  return locals.function([
    ...places.flatMap((local, i) => set(local, rotated(i + 1))),
    ...set(counter, v128.add(v128.splat(get(COUNTER)), steps)),
    ...repeat(FOURS, four),
  ]);
}

/** Mixes the words of the message into the state. */
function rounds(state: readonly Local[], message: readonly Local[], places: readonly [Local, Local]): Code {
  const code: Code[] = [];
  let words = message;
  for (let round = 0; round < ROUNDS; round++) {
    code.push(mix(COLUMNS, state, words.slice(0, 8), places), mix(DIAGONALS, state, words.slice(8), places));
    words = PERMUTATION.map((i) => words[i]!);
  }
  return code.flat();
}

/**
 * BLAKE3's `G` on four times four words of the state, and two words of the message for each. All four take a step before
 * they take the next, so that the processor has something to do while one waits for its last step.
 */
function mix(
  quadruples: readonly (readonly [number, number, number, number])[],
  state: readonly Local[],
  words: readonly Local[],
  [by8, by16]: readonly [Local, Local],
): Code {
  const steps = (step: (a: Local, b: Local, c: Local, d: Local, i: number) => Code) =>
    quadruples.flatMap(([a, b, c, d], i) => step(state[a]!, state[b]!, state[c]!, state[d]!, i));
  const half = (word: number, move: Local, bits: number) => [
    ...steps((a, b, _c, _d, i) => set(a, v128.add(v128.add(get(a), get(words[2 * i + word]!)), get(b)))),
    ...steps((a, _b, _c, d) => xorMove(d, a, move)),
    ...steps((_a, _b, c, d) => set(c, v128.add(get(c), get(d)))),
    ...steps((_a, b, c) => xorRotate(b, c, bits)),
  ];
  return [...half(0, by16, 12), ...half(1, by8, 7)];
}

/** `local` becomes `local ^ other`, rotated to the right. */
function xorRotate(local: Local, other: Local, bits: number): Code {
  return [
    ...set(local, v128.xor(get(local), get(other))),
    ...set(local, v128.or(v128.shiftRight(get(local), bits), v128.shiftLeft(get(local), 32 - bits))),
  ];
}

/** The same, where whole bytes only move to other places. */
function xorMove(local: Local, other: Local, places: Local): Code {
  return set(local, v128.swizzle(v128.xor(get(local), get(other)), get(places)));
}

/** Where every byte comes from when words are rotated to the right by so many bytes. */
function rotated(by: number): Code {
  const word = (i: number) =>
    [0, 1, 2, 3].reduceRight((sum, byte) => sum * 256 + 4 * i + ((byte + by) % 4), 0);
  return v128.const(ALL.map(word));
}

/** Four vectors become the lanes of four others, in their place: rows become columns. */
function transpose(rows: readonly Local[], spare: readonly Local[]): Code {
  const [a, b, c, d] = rows as [Local, Local, Local, Local];
  const [low, high, nextLow, nextHigh] = spare as [Local, Local, Local, Local];
  const pick = (to: Local, one: Local, other: Local, lanes: readonly number[]) =>
    set(to, v128.pick(get(one), get(other), lanes));
  return [
    ...pick(low, a, b, [0, 4, 1, 5]),
    ...pick(high, a, b, [2, 6, 3, 7]),
    ...pick(nextLow, c, d, [0, 4, 1, 5]),
    ...pick(nextHigh, c, d, [2, 6, 3, 7]),
    ...pick(a, low, nextLow, [0, 1, 4, 5]),
    ...pick(b, low, nextLow, [2, 3, 6, 7]),
    ...pick(c, high, nextHigh, [0, 1, 4, 5]),
    ...pick(d, high, nextHigh, [2, 3, 6, 7]),
  ];
}

function quarters(locals: readonly Local[]): (readonly Local[])[] {
  return Array.from({ length: locals.length / 4 }, (_, i) => locals.slice(4 * i, 4 * i + 4));
}
