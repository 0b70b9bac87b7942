import type { PathInfo } from '../store/path-info/path-info.ts';
import { formatSize } from '../util/bytes.ts';
import type { Fields } from '../util/log.ts';

/** The whole of a store path that somebody has looked into. */
export interface EnteredPath {
  readonly name: string;
  /** Files, directories and links in it. */
  readonly entries: number;
  /** Length of its NAR in bytes. */
  readonly size: number;
}

/** Message of a serving thread: a store path was looked up for the first time. */
export interface EnteredMessage {
  readonly type: 'entered';
  readonly path: EnteredPath;
}

/** Message of a serving thread: these objects were read from the cache. */
export interface UsedMessage {
  readonly type: 'used';
  readonly digests: readonly string[];
}

export function enteredPath({ storePath, node, narSize }: PathInfo): EnteredPath {
  const entries = node.kind === 'directory' ? Number(node.size) / 2 + 1 : 1;
  return { name: String(storePath), entries, size: Number(narSize) };
}

/** Statistics of a mount: requests, reads, and the store paths that were looked into. */
export interface MountStatistics {
  /** Requests of the kernel, by the name of the operation. */
  readonly requests: ReadonlyMap<string, number>;
  /** Requests that had to wait for something to be fetched; all others found it local. */
  readonly misses: number;
  /** Bytes of file contents that the kernel asked for, and the files they were in. */
  readonly bytesRead: number;
  readonly filesRead: number;
  /** Nodes in use. */
  readonly nodes: number;
  /** Store paths that were looked into. */
  readonly entered: readonly EnteredPath[];
}

/** Objects and bytes that came from a far store. */
export interface FetchStatistics {
  readonly objects: number;
  readonly bytes: number;
}

/** The statistics for a script. */
export function toJson(statistics: MountStatistics, fetched: FetchStatistics) {
  return {
    requests: Object.fromEntries(statistics.requests),
    ...totals(statistics),
    bytesRead: statistics.bytesRead,
    filesRead: statistics.filesRead,
    nodes: statistics.nodes,
    fetched,
  };
}

/** The statistics for a log line. */
export function toFields(statistics: MountStatistics, fetched: FetchStatistics): Fields {
  const { total, hits, storePaths, entries, size } = totals(statistics);
  const kinds = [...statistics.requests]
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `${name} ${count}`);
  return {
    requests: total,
    kinds: kinds.join(', '),
    hits,
    read: formatSize(statistics.bytesRead),
    of: formatSize(size),
    files: statistics.filesRead,
    'of-entries': entries,
    paths: storePaths,
    fetched: fetched.objects > 0 ? formatSize(fetched.bytes) : undefined,
  };
}

function totals({ requests, misses, entered }: MountStatistics) {
  const total = [...requests.values()].reduce((sum, count) => sum + count, 0);
  return {
    total,
    hits: total - misses,
    storePaths: entered.length,
    entries: entered.reduce((sum, path) => sum + path.entries, 0),
    size: entered.reduce((sum, path) => sum + path.size, 0),
  };
}
