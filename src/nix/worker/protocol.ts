/**
 * Numbers of Nix's worker protocol, by which programs speak to its daemon (Nix's own documentation of it is its source:
 * `worker-protocol.hh`).
 */

/** What the client says first, and what the daemon answers. */
export const CLIENT_MAGIC = 0x6e697863n;
export const DAEMON_MAGIC = 0x6478696fn;

/** A version of the protocol: the major number is 1. */
const version = (minor: number) => (1 << 8) | minor;
/** Spoken by Nix 2.8 and later. */
export const OLDEST_VERSION = version(34);
export const NEWEST_VERSION = version(38);

/** From which version on something is said. */
export const SINCE = {
  TRUST: version(35),
  CPU_TIMES: version(37),
  FEATURES: version(38),
} as const;

/** Whether a client may do what only the owner of a store may. */
export const TRUST = { UNKNOWN: 0, TRUSTED: 1, NOT_TRUSTED: 2 } as const;

/** What stands before an answer: an error in its place, or that it comes now. */
export const REPLY = { ERROR: 0x63787470, LAST: 0x616c7473 } as const;

/** What a daemon says while it works. */
export const MESSAGE = { NEXT: 0x6f6c6d67, START: 0x53545254, STOP: 0x53544f50, RESULT: 0x52534c54 } as const;

/** Requests by their number. */
export const OPERATION = {
  IsValidPath: 1,
  QueryReferrers: 6,
  AddToStore: 7,
  BuildPaths: 9,
  EnsurePath: 10,
  AddTempRoot: 11,
  AddIndirectRoot: 12,
  SyncWithGC: 13,
  FindRoots: 14,
  SetOptions: 19,
  CollectGarbage: 20,
  QueryAllValidPaths: 23,
  QueryPathInfo: 26,
  QueryPathFromHashPart: 29,
  QuerySubstitutablePathInfos: 30,
  QueryValidPaths: 31,
  QuerySubstitutablePaths: 32,
  QueryValidDerivers: 33,
  OptimiseStore: 34,
  VerifyStore: 35,
  BuildDerivation: 36,
  AddSignatures: 37,
  NarFromPath: 38,
  AddToStoreNar: 39,
  QueryMissing: 40,
  QueryDerivationOutputMap: 41,
  RegisterDrvOutput: 42,
  QueryRealisation: 43,
  AddMultipleToStore: 44,
  AddBuildLog: 45,
  BuildPathsWithResults: 46,
  AddPermRoot: 47,
} as const;

export type Operation = keyof typeof OPERATION;
