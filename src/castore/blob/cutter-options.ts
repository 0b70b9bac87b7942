/** Limits of a chunk in bytes. `min` and `average` are even. */
export interface CutterOptions {
  readonly min: number;
  readonly average: number;
  readonly max: number;
  /** Mask before the average length (harder to satisfy) and after it. */
  readonly maskSmall: bigint;
  readonly maskLarge: bigint;
}

/** The parameters that tvix and snix use. */
export const DEFAULT_CUTTER: CutterOptions = {
  min: 128 * 1024,
  average: 256 * 1024,
  max: 512 * 1024,
  maskSmall: 0x0000d91707537000n,
  maskLarge: 0x0000d90703537000n,
};
