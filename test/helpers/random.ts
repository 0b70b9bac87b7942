import { createHash } from 'node:crypto';

/** Bytes that look random and are the same for the same seed. */
export function randomBytes(length: number, seed: string | number = 0): Buffer {
  return createHash('shake256', { outputLength: Math.max(1, length) })
    .update(String(seed))
    .digest()
    .subarray(0, length);
}

/** SHA-256 of 0, 1, 2, … as 64-bit little-endian numbers, joined and cut to a length. */
export function counterBytes(length: number): Buffer {
  const parts = Array.from({ length: Math.ceil(length / 32) }, (_, i) => {
    const number = Buffer.alloc(8);
    number.writeBigUInt64LE(BigInt(i));
    return createHash('sha256').update(number).digest();
  });
  return Buffer.concat(parts).subarray(0, length);
}

/** A generator of numbers from 0 up to 1, the same for the same seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A seed for this run, or the one that `TEST_SEED` gives to repeat another. */
export const SEED = Number(process.env.TEST_SEED ?? Date.now() % 2 ** 31);
