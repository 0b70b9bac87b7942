/** Called whenever something arrives: waiting for the rest is still worth it. */
export type Progress = () => void;

export interface FetcherOptions {
  /** Serve nothing of a blob before the whole has been checked. */
  readonly verifyWhole: boolean;
  /** Fetch what the profile of a store path names when somebody looks into it. */
  readonly prefetch?: boolean | undefined;
}
