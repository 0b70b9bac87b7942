import { closeSync, constants, openSync } from 'node:fs';
import { CacheLimit } from '../castore/local/cache-limit.ts';
import type { Environment } from '../castore/local/environment.ts';
import { PinFile } from '../castore/local/pins.ts';
import { LocalStore } from '../castore/local/store.ts';
import type { ContentNeed } from '../fs/need.ts';
import { NodeTable } from '../fs/node-table.ts';
import { ReadLog } from '../fs/read-log.ts';
import type { Owner } from '../fs/stat.ts';
import type { InodeBits } from '../fs/store-file-system.ts';
import type { PublicKey } from '../nix/key.ts';
import type { Store } from '../store/services.ts';
import { systemCode } from '../util/errors.ts';
import { DirectoryIndexer } from './directory-indexer.ts';
import { loadBeforehand } from './fetch/beforehand.ts';
import { CacheSweep } from './fetch/cache-sweep.ts';
import { diagnose } from './fetch/diagnosis.ts';
import { Fetcher } from './fetch/fetcher.ts';
import { Keeper } from './fetch/keeper.ts';
import { HandOver } from './hand-over.ts';
import { ProfileNoter } from './profile-noter.ts';
import type { FetchStatistics, MountStatistics } from './statistics.ts';

/** Nodes the kernel may know at once: 64 bytes each once used, 1 GiB of address space. */
const NODE_CAPACITY = 1 << 24;

/** Says what is served, and how to get what is not local. */
export interface ServeOptions {
  readonly listRoot: boolean;
  readonly showXattr: boolean;
  readonly inodeBits?: InodeBits | undefined;
  /** Who owns all that is shown; root, if nobody is named. */
  readonly owner?: Owner | undefined;
  readonly store: Store;
  /** The store as a person named it. */
  readonly storeName: string;
  /** Where to keep what is fetched, if the store is not local. */
  readonly cacheDir: string;
  /** A read fails after this long without content, in milliseconds. */
  readonly timeoutMs: number;
  /** How large the cache may get, in bytes. */
  readonly cacheSize?: number | undefined;
  /** Whether room is left on the disk of the cache: see `setKeepFree`. */
  readonly keepsFree?: boolean;
  /** Serve what the cache holds, and ask nobody. */
  readonly offline: boolean;
  /** Whose signatures count, of what the cache has of others. */
  readonly trustedKeys?: readonly PublicKey[] | undefined;
  /** Serve nothing of a blob before the whole has been checked. */
  readonly verifyWhole: boolean;
  /** Fetch what the profile of a store path names when somebody looks into it. */
  readonly prefetch?: boolean | undefined;
}

/** The surroundings of the side that faces the kernel. */
export interface ServeContext {
  /** The local store that is read. */
  readonly env: Environment;
  /** Path whose file system `statfs` tells the size of: its name may come to lead elsewhere, so it is by a descriptor. */
  readonly usageDir: string;
  /** Whether what is not local can be had through `handOver`. */
  readonly remote: boolean;
  /** Whose signatures count, printed, of what the local store has of others. */
  readonly trustedKeys: readonly string[] | undefined;
  readonly handOver: HandOver;
  /** Memory of the node table. */
  readonly nodes: SharedArrayBuffer;
  /** Where to pin store paths, if anybody might delete them. */
  readonly pinPath: string | undefined;
  readonly inodeBits?: InodeBits | undefined;
  /** Memory of the log of what is read, if it comes from elsewhere. */
  readonly readLog: SharedArrayBuffer | undefined;
  /** Hears now and then what was read, by digests with one character a byte. */
  readonly onUsed: ((digests: readonly string[]) => void) | undefined;
}

/** A file system that is being served to a kernel. */
export interface ServedFileSystem {
  /** Resolves when that is over, by `stop` or by somebody else's doing; rejects when it cannot go on. */
  readonly closed: Promise<void>;
  /** Resolves when the kernel is no longer served. */
  stop(): Promise<void>;
  /** Whether all threads that serve the kernel say within so many milliseconds that they are there. */
  responds(withinMs: number): Promise<boolean>;
  statistics(): MountStatistics;
}

/** A served file system with its fetch side. */
export interface ServedStore extends ServedFileSystem {
  fetched(): FetchStatistics;
  /** How its needs were met. */
  readonly needs: Pick<HandOver, 'fetches' | 'failures'>;
  /** The local store that is read. */
  readonly local: LocalStore;
}

/** Where store paths are pinned; nowhere in a store that cannot be written to, of which nobody can take them either. */
function pinFile(env: Environment): PinFile | undefined {
  try {
    return PinFile.create(env);
  } catch (error) {
    if (systemCode(error) !== 'EROFS') throw error;
    return undefined;
  }
}

/**
 * Serves a store to a kernel, which `begin` turns to. A local store is read directly; another's contents are
 * fetched into a local cache.
 */
export async function serveStore(
  options: ServeOptions,
  begin: (context: ServeContext) => Promise<ServedFileSystem>,
): Promise<ServedStore> {
  const { store } = options;
  const local = options.offline
    ? LocalStore.openToRead(options.cacheDir)
    : (store.local ?? LocalStore.open(options.cacheDir, 'cache'));
  // What a cache lacks is fetched again, so nothing in it needs to be held.
  const pins = local.env.kind === 'store' ? pinFile(local.env) : undefined;
  const directory = openSync(local.env.dir, constants.O_RDONLY | constants.O_DIRECTORY);
  let fetcher: Fetcher | undefined;
  let keeper: Keeper | undefined;
  let limit: CacheLimit | undefined;
  let sweep: CacheSweep | undefined;
  let noter: ProfileNoter | undefined;
  const readLog = local === store.local || options.offline ? undefined : ReadLog.allocate();
  const release = async () => {
    await fetcher?.close();
    noter?.close();
    await keeper?.close();
    await sweep?.close();
    pins?.close();
    closeSync(directory);
    if (local !== store.local) await local.close();
  };
  try {
    const indexer = new DirectoryIndexer();
    const handOver: HandOver = new HandOver({
      timeoutMs: options.timeoutMs,
      fetch: async (need, progress, signal) => {
        const fetch = async (content: ContentNeed) =>
          fetcher ? fetcher.fetch(content, progress, signal) : diagnose(local, content);
        if (need.kind !== 'index') return fetch(need);
        const read = (digest: Uint8Array) =>
          keeper ? keeper.encodedDirectory(digest) : local.reader.directory(digest);
        const deliver = handOver.indexed.bind(handOver);
        return indexer.meet(need, { read, fetch, deliver }, signal);
      },
    });
    if (local !== store.local && !options.offline) {
      if (store.paths) await loadBeforehand();
      const { cacheSize = options.keepsFree ? Number.POSITIVE_INFINITY : undefined } = options;
      if (cacheSize !== undefined) limit = new CacheLimit(local.env, cacheSize);
      keeper = new Keeper(local, handOver, options.storeName);
      noter = readLog && new ProfileNoter(keeper, readLog);
      // A cache with a limit is cleared up with it.
      if (!limit) sweep = new CacheSweep(local.env);
      fetcher = new Fetcher(store, keeper, options);
    }
    const serving = await begin({
      env: local.env,
      usageDir: `/proc/self/fd/${directory}`,
      remote: fetcher !== undefined,
      trustedKeys: local === store.local ? undefined : options.trustedKeys?.map(String),
      handOver,
      nodes: NodeTable.allocate(NODE_CAPACITY),
      pinPath: pins?.path,
      inodeBits: options.inodeBits,
      readLog,
      onUsed:
        limit &&
        ((digests) => {
          for (const digest of digests) limit?.used(Buffer.from(digest, 'latin1'));
        }),
    });
    const closed = serving.closed.finally(() => {
      handOver.close();
      return release();
    });
    // Who does not ask has `stop`.
    closed.catch(() => {});
    return {
      closed,
      async stop() {
        await serving.stop();
        await closed.catch(() => {});
      },
      responds: (withinMs) => serving.responds(withinMs),
      statistics: () => serving.statistics(),
      fetched: () => ({ ...(keeper?.fetched ?? { objects: 0, bytes: 0 }) }),
      needs: handOver,
      local,
    };
  } catch (error) {
    await release();
    throw error;
  }
}
