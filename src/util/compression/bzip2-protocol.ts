/** Data for the thread that decompresses bzip2. */
export interface Bzip2ThreadData {
  /** Bytes that were put out and have not been taken. */
  readonly untaken: Int32Array;
}

/** The thread waits while more than so many bytes have not been taken. */
export const MAX_UNTAKEN = 1 << 20;

/** A part of the input, or its end. */
export type Bzip2Question = Uint8Array | 'end';

/** A part of the output, word that the input has been used up, that all is done, or what is wrong. */
export type Bzip2Answer = Uint8Array | 'more' | 'end' | { readonly error: string };
