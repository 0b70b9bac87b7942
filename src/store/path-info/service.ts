import type { PathDescription, PathInfo } from './path-info.ts';

/**
 * Path infos, by the 20-byte hash in the store path. A call whose signal has fired already does nothing, and throws
 * the signal's reason.
 */
export interface PathInfoService {
  /** Where puts go, if that is only a part of what is asked: a copy that is kept elsewhere may go. */
  readonly target?: PathInfoService | undefined;

  /** Whether what this keeps may be lost, since all of it is somewhere else: its contents need not be here. */
  readonly isCache?: boolean;

  /** Whether a put is refused (FAILED_PRECONDITION) whose contents are not there. */
  readonly checksContents?: boolean;

  /** `undefined` when the path is not there. */
  get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined>;

  /**
   * Gives the result of `get` without the contents: a service that has to fetch those does not do so for this.
   */
  describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathDescription | undefined>;

  /**
   * Stores a path info over one that may be there, and gives it as stored: the signatures of the same path that are there
   * stay, and a signing service adds one. It is durable when this resolves, and so is everything put into the same store
   * before.
   */
  put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo>;

  /** As `put`, but nothing when a part of the contents is not in the same store. Only where that can be told. */
  putIfWhole?(info: PathInfo, signal?: AbortSignal): Promise<void>;

  /** As `put`, but with no signatures besides its own. Only where that can be told. */
  replace?(info: PathInfo, signal?: AbortSignal): Promise<PathInfo>;

  /** All of them, in any order. Throws UNIMPLEMENTED where that cannot be told. */
  list(signal?: AbortSignal): AsyncIterable<PathInfo>;
}
