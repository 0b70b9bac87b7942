/** Memory that the reading and the cutting thread share. */
export interface CutThreadData {
  readonly control: Int32Array;
  /** Contents, in shared memory. */
  readonly ring: Uint8Array;
  /** Ends of chunks, as offsets in the stream modulo 2^32, by their number modulo its length. */
  readonly cuts: Int32Array;
  /** The digest of all of it, once it is there. */
  readonly digest: Uint8Array;
}

/** Words of the control block; offsets are modulo 2^32. */
export const CONTROL = {
  /** Bytes that lie in the ring. */
  WRITTEN: 0,
  /** Set when nothing more comes. */
  FINISHED: 1,
  /** Chunks that have been cut. */
  CUT: 2,
  /** Set when the digest is there. */
  HASHED: 3,
  LENGTH: 4,
} as const;

export const RING_LENGTH = 8 << 20;
/** More than there can be chunks in the ring. */
export const CUTS = 256;
