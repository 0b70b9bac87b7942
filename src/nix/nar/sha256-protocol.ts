/** Memory that a writer and the hashing thread share. */
export interface Sha256ThreadData {
  readonly control: Int32Array;
  /** In shared memory; its length is a power of two. */
  readonly ring: Uint8Array;
  /** Whether everything else goes first. */
  readonly background: boolean;
}

/** Words of the control block: bytes written and bytes hashed, modulo 2^32, and whether all is written. */
export const WRITTEN = 0;
export const HASHED = 1;
export const FINISHED = 2;
