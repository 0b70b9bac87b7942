/** Called whenever something arrives, so that waiting for the rest is worth it. */
export type Progress = () => void;

export interface FetcherOptions {
  /** Serve nothing of a blob before the whole has been checked. */
  readonly verifyWhole: boolean;
}
