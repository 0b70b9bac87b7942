/** What somebody needs of a cache for a while: it is not evicted before that is over. */
export interface Hold {
  /** Holds an object, by its digest; true when this did not hold it yet. */
  add(digest: Uint8Array): boolean;
  release(): void;
}

/** How a cache is kept small. All in bytes. */
export interface CacheState {
  readonly limit: number;
  /** `undefined` while it has not been measured. */
  readonly size: number | undefined;
  /** What went, all in all, and how often something did. */
  readonly evicted: number;
  readonly evictions: number;
}

/** Hears what is read from a cache, and what comes into it. */
export interface UseListener {
  used(digest: Uint8Array): void;
  /** `size`: in bytes. */
  added(digest: Uint8Array, size: number): void;
  /** Begins to hold objects. */
  hold(): Hold;
  readonly state: CacheState;
  close(): Promise<void>;
}
