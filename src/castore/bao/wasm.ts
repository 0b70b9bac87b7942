/**
 * A small assembler of WebAssembly, for the few instructions that the kernel of BLAKE3 takes. Code is bytes; an
 * expression leaves its value on the stack, so they nest as in any language: `set(a, add(get(a), get(b)))`.
 */

export type Code = readonly number[];

/** A parameter or a variable of a function, by its number. */
export type Local = number;

const I32 = 0x7f;
const V128 = 0x7b;
const NO_RESULT = 0x40;
/** WebAssembly counts memory in pages of 64 KiB. */
const PAGE = 65_536;

const op = (opcode: number, ...operands: Code[]): Code => [...operands.flat(), opcode];
const simd = (opcode: number, ...operands: Code[]): Code => [...operands.flat(), 0xfd, ...unsigned(opcode)];

export const get = (local: Local): Code => [0x20, ...unsigned(local)];
export const set = (local: Local, value: Code): Code => [...value, 0x21, ...unsigned(local)];

/** Numbers of 32 bits. */
export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value | 0)],
  add: (a: Code, b: Code) => op(0x6a, a, b),
  sub: (a: Code, b: Code) => op(0x6b, a, b),
  or: (a: Code, b: Code) => op(0x72, a, b),
  equal: (a: Code, b: Code) => op(0x46, a, b),
  /** The one or the other, by a condition. */
  select: (condition: Code, yes: Code, no: Code) => op(0x1b, yes, no, condition),
};

/** Vectors of four lanes of 32 bits. */
export const v128 = {
  load: (address: Code, offset: number): Code => [...simd(0, address), ...memory(offset)],
  store: (address: Code, offset: number, value: Code): Code => [
    ...simd(11, address, value),
    ...memory(offset),
  ],
  /** The same number in every lane. */
  splat: (value: Code) => simd(17, value),
  const: (lanes: readonly number[]): Code => [...simd(12), ...bytesOf(lanes)],
  add: (a: Code, b: Code) => simd(174, a, b),
  multiply: (a: Code, b: Code) => simd(181, a, b),
  or: (a: Code, b: Code) => simd(80, a, b),
  xor: (a: Code, b: Code) => simd(81, a, b),
  shiftLeft: (a: Code, bits: number) => simd(171, a, i32.const(bits)),
  shiftRight: (a: Code, bits: number) => simd(173, a, i32.const(bits)),
  /** Four lanes out of the eight of `a` and `b`. */
  pick: (a: Code, b: Code, lanes: readonly number[]): Code => [
    ...simd(13, a, b),
    ...lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte)),
  ],
  /**
   * The bytes of `a` at the places that `bytes` says, each below 16: a variable costs one instruction, where V8 makes the
   * operand of a `shuffle` anew each time.
   */
  swizzle: (a: Code, bytes: Code) => simd(0x100, a, bytes),
};

/** Runs `body` so many times, at least once; `count` is counted down to zero. */
export function repeat(count: Local, body: Code): Code {
  const next = set(count, i32.sub(get(count), i32.const(1)));
  return [0x03, NO_RESULT, ...body, ...next, ...get(count), 0x0d, 0, 0x0b];
}

/** A function's variables, as they are needed. Its parameters, all `i32`, come first. */
export class Locals {
  readonly #parameters: number;
  readonly #types: number[] = [];

  constructor(parameters: number) {
    this.#parameters = parameters;
  }

  i32(): Local {
    return this.#add(I32);
  }

  v128(): Local {
    return this.#add(V128);
  }

  /** So many of `v128`. */
  v128s(count: number): Local[] {
    return Array.from({ length: count }, () => this.v128());
  }

  #add(type: number): Local {
    return this.#parameters + this.#types.push(type) - 1;
  }

  /** The function: what it takes, its variables and its code. */
  function(body: Code): { readonly parameters: number; readonly code: Code } {
    const locals = list(this.#types.map((type) => [1, type]));
    return { parameters: this.#parameters, code: sized([...locals, ...body, 0x0b]) };
  }
}

/** The bytes of a module: memory of at least `bytes`, exported as `memory`, and one function, exported as `run`. */
export function moduleOf(
  bytes: number,
  { parameters, code }: { readonly parameters: number; readonly code: Code },
): Uint8Array<ArrayBuffer> {
  const section = (id: number, ...items: Code[]): Code => [id, ...sized(list(items))];
  const name = (text: string): Code => sized([...Buffer.from(text)]);
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [0x60, ...list(Array.from({ length: parameters }, () => [I32])), 0]),
    ...section(3, [0]),
    ...section(5, [0, ...unsigned(Math.ceil(bytes / PAGE))]),
    ...section(7, [...name('memory'), 2, 0], [...name('run'), 0, 0]),
    ...section(10, code),
  ]);
}

/** Starts a module that `moduleOf` made. */
export function instantiate(module: Uint8Array<ArrayBuffer>): {
  readonly memory: Uint8Array;
  readonly run: (...parameters: number[]) => void;
} {
  const { memory, run } = new WebAssembly.Instance(new WebAssembly.Module(module)).exports;
  return { memory: new Uint8Array(memory.buffer), run };
}

/** What the types of Node do not tell of: the part of it that is used. */
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>);
  }
  class Instance {
    constructor(module: Module);
    readonly exports: { memory: { buffer: ArrayBuffer }; run: (...parameters: number[]) => void };
  }
}

/** Of an access to memory: no promise of alignment, and what is added to the address. */
const memory = (offset: number): Code => [0, ...unsigned(offset)];
const list = (items: readonly Code[]): Code => [...unsigned(items.length), ...items.flat()];
const sized = (code: Code): Code => [...unsigned(code.length), ...code];
const bytesOf = (words: readonly number[]): Code => [...new Uint8Array(Uint32Array.from(words).buffer)];

/** LEB128. */
function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: number): Code {
  const rest = value >> 7;
  const isLast = rest === (value & 0x40 ? -1 : 0);
  return isLast ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(rest)];
}
