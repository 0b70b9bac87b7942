export interface MountOptions {
  /** Whether the root may be listed. Names in it are found all the same. */
  readonly listRoot?: boolean;
  /** Whether other users may look inside: for root, or with `user_allow_other` in `/etc/fuse.conf`. */
  readonly allowOther?: boolean;
}

/** A running mount. */
export interface Mount {
  readonly directory: string;
  /** Resolves when it has ended, by `stop` or because somebody unmounted it; rejects when it could not go on. */
  readonly closed: Promise<void>;
  /** Unmounts; a busy mount is detached, and its users get errors. */
  stop(): Promise<void>;
}

/** A running server. */
export interface Server {
  /** Where it listens, with the port that it was given for port 0. */
  readonly addresses: readonly string[];
  /** Takes nothing new, and gives what is under way 5 s to finish. */
  stop(): Promise<void>;
}
