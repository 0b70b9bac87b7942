import { NodeTable } from '../fs/node-table.ts';
import { COUNTER, IO_ERROR_CAUSES, latencyCounter, sharedTime } from '../fuse/counters.ts';
import { opcodeName } from '../fuse/opcodes.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import { formatSize } from '../util/bytes.ts';
import type { Fields } from '../util/log.ts';
import type { Distribution } from '../util/metrics/distribution.ts';
import { countOf, distributionIn } from '../util/metrics/distribution.ts';

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
  /** How long those took that were answered, likewise; `other` for operations that are newer than this program. */
  readonly latencies: ReadonlyMap<string, Distribution>;
  /** Requests that failed with an I/O error, by cause. */
  readonly ioErrors: ReadonlyMap<string, number>;
  /** Requests that wait now for something to be fetched, and for how long the oldest has, in milliseconds. */
  readonly waiting: number;
  readonly oldestMs: number;
  /** Virtual machines that are connected. */
  readonly guests: number;
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

/** What counts requests of a kernel: see `COUNTER`. */
export interface Counting {
  readonly counters: Float64Array;
  /** Store paths that were looked up through it. */
  readonly entered: readonly EnteredPath[];
}

/** Sums up the statistics of all that serve one kernel. `nodes`: memory of the node table. */
export function statisticsOf(all: readonly Counting[], nodes: SharedArrayBuffer): MountStatistics {
  const memories = all.map(({ counters }) => counters);
  const sum = (counter: number) => memories.reduce((total, counters) => total + counters[counter]!, 0);
  const requests = new Map<string, number>();
  const latencies = new Map<string, Distribution>();
  const entered = new Map<string, EnteredPath>();
  const add = (name: string, count: number) => {
    if (count > 0) requests.set(name, (requests.get(name) ?? 0) + count);
  };
  for (const { entered: paths } of all) for (const path of paths) entered.set(path.name, path);
  for (let opcode = 0; COUNTER.REQUESTS + opcode < COUNTER.LATENCIES; opcode++) {
    add(opcodeName(opcode), sum(COUNTER.REQUESTS + opcode));
    const at = latencyCounter(opcode);
    const name = at === COUNTER.LATENCIES ? 'other' : opcodeName(opcode);
    const distribution = distributionIn(memories, at);
    if (countOf(distribution) > 0) latencies.set(name, distribution);
  }
  add('other', sum(COUNTER.OTHER_REQUESTS));
  const since = memories.map((counters) => counters[COUNTER.WAITING_SINCE]!).filter((moment) => moment > 0);
  const now = sharedTime(performance.now());
  return {
    requests,
    latencies,
    ioErrors: new Map(IO_ERROR_CAUSES.map((cause, i) => [cause, sum(COUNTER.IO_ERRORS + i)])),
    waiting: sum(COUNTER.WAITING),
    oldestMs: Math.max(0, ...since.map((moment) => now - moment)),
    guests: sum(COUNTER.GUESTS),
    misses: sum(COUNTER.PARKED),
    bytesRead: sum(COUNTER.READ_BYTES),
    filesRead: sum(COUNTER.FILES),
    nodes: new NodeTable(nodes).size,
    entered: [...entered.values()],
  };
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
