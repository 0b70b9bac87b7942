import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { CollectionState } from '../../../castore/objects/collection-state.ts';
import { readState, STATE_KEY, writeState } from '../../../castore/objects/collection-state.ts';
import type { Kind, ObjectStore } from '../../../castore/objects/object-store.ts';
import { NOTICE_MS } from '../../../castore/objects/reliance.ts';
import { eachOf } from '../../../util/async/each-of.ts';
import { latin1 } from '../../../util/bytes.ts';
import { StoreError } from '../../../util/errors.ts';
import { log } from '../../../util/log.ts';
import type { PathInfo } from '../../path-info/path-info.ts';
import { isExpired } from '../roots.ts';
import type { ListedPathInfo } from './listing.ts';
import { contentsOf, digestsOf, pathInfosOf } from './listing.ts';
import { References } from './references.ts';
import { BucketRoots } from './roots.ts';

/** A collection that says nothing for so long has ended, in milliseconds. */
const ALIVE_MS = 600_000;
/** Objects removed at once. */
const BATCH = 1000;
const ASKED_AT_ONCE = 32;

export interface BucketGcOptions {
  /** Paths that were put within so many seconds stay. */
  readonly olderThan: number;
  /** Contents that were put within so many milliseconds stay, whatever refers to them: see `Reliance`. */
  readonly graceMs: number;
  readonly dryRun: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Told of each store path, and by what it is held if it is. */
  readonly onPath?: (info: PathInfo, heldBy: string | undefined) => void;
  readonly onProgress?: () => void;
}

export interface BucketGcReport {
  /** Store paths that are gone, and that are left. */
  paths: number;
  kept: number;
  directories: number;
  manifests: number;
  chunks: number;
  bytes: number;
}

/**
 * Frees the store paths of a bucket that nothing holds: no root, no put of late, and no reference from one that is held;
 * path infos first, then what only they referred to. For how this is safe beside uploads, see `Reliance`. Throws
 * UNAVAILABLE when another collection is under way.
 */
export async function collectBucket(objects: ObjectStore, options: BucketGcOptions): Promise<BucketGcReport> {
  const { signal, graceMs, dryRun } = options;
  const run = dryRun ? undefined : await Run.begin(objects, graceMs, signal);
  try {
    const now = run ? run.now : Date.now;
    const { kept, gone } = await choose(objects, options, now());
    const report = {
      paths: gone.length,
      kept: kept.length,
      directories: 0,
      manifests: 0,
      chunks: 0,
      bytes: 0,
    };
    if (!dryRun) await removeUnchanged(objects, gone, signal);
    const lists = await digestsOf(objects, 'blobs', signal);
    const references = new References(objects, (digest) => lists.has(digest));
    for (const { node } of kept) {
      options.onProgress?.();
      await references.add(node, { broken: complain }, signal);
    }
    const counts: Record<Kind, 'directories' | 'manifests' | 'chunks'> = {
      dirs: 'directories',
      blobs: 'manifests',
      chunks: 'chunks',
    };
    // What refers goes before what is referred to.
    for (const kind of ['dirs', 'blobs', 'chunks'] as const) {
      let keys: string[] = [];
      for await (const { key, digest, size, modified } of contentsOf(objects, kind, signal)) {
        options.onProgress?.();
        if (references.seen[kind].has(digest) || now() - modified < graceMs) continue;
        report[counts[kind]]++;
        report.bytes += size;
        keys.push(key);
        if (dryRun || keys.length < BATCH) continue;
        await objects.remove(keys, signal);
        keys = [];
      }
      if (!dryRun && keys.length > 0) await objects.remove(keys, signal);
    }
    return report;
  } finally {
    await run?.end();
  }
}

let complained = false;

function complain(): void {
  if (!complained) log.warn('the bucket is damaged: tvix-store fsck tells more');
  complained = true;
}

/** The store paths that stay, and the objects of those that go. Reports them to `onPath`. */
async function choose(
  objects: ObjectStore,
  { olderThan, onPath, onProgress, signal }: BucketGcOptions,
  now: number,
): Promise<{ kept: PathInfo[]; gone: ListedPathInfo[] }> {
  const roots = (await new BucketRoots(objects).list(signal)).filter((root) => !isExpired(root));
  const all = new Map<string, ListedPathInfo & { readonly info: PathInfo }>();
  const held = new Map<string, string>();
  const queue: { key: string; heldBy: string }[] = [];
  for await (const one of pathInfosOf(objects, signal)) {
    onProgress?.();
    // A damaged one is for fsck: what it refers to cannot be known.
    if (!one.info) {
      complain();
      continue;
    }
    const key = latin1(one.info.storePath.hash);
    all.set(key, { ...one, info: one.info });
    const age = Math.max(0, Math.round((now - one.modified) / 1000));
    if (age < olderThan) queue.push({ key, heldBy: `its upload ${age} s ago` });
  }
  for (const { name, storePath } of roots)
    queue.push({ key: latin1(storePath.hash), heldBy: `the root ${name}` });
  for (let next = queue.pop(); next; next = queue.pop()) {
    const one = all.get(next.key);
    if (!one || held.has(next.key)) continue;
    held.set(next.key, next.heldBy);
    for (const { hash } of one.info.references)
      queue.push({ key: latin1(hash), heldBy: String(one.info.storePath) });
  }
  const kept: PathInfo[] = [];
  const gone: ListedPathInfo[] = [];
  for (const [key, one] of all) {
    const heldBy = held.get(key);
    onPath?.(one.info, heldBy);
    if (heldBy === undefined) gone.push(one);
    else kept.push(one.info);
  }
  return { kept, gone };
}

/** Removes path infos, but for those that have been put again since they were listed. */
async function removeUnchanged(
  objects: ObjectStore,
  gone: readonly ListedPathInfo[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let next = 0; next < gone.length; next += BATCH) {
    const keys: string[] = [];
    await eachOf(gone.slice(next, next + BATCH), ASKED_AT_ONCE, signal, async ({ key, modified }, abort) => {
      const facts = await objects.facts(key, abort);
      // An answer of its own tells whole seconds.
      if (facts && Math.floor(facts.modified / 1000) === Math.floor(modified / 1000)) keys.push(key);
    });
    await objects.remove(keys, signal);
  }
}

/** A collection that has told that it is under way. */
class Run {
  readonly #objects: ObjectStore;
  readonly #state: CollectionState;
  readonly #timer: NodeJS.Timeout;
  /** How far the clock of the store is ahead of ours. */
  #ahead = 0;

  private constructor(objects: ObjectStore, state: CollectionState) {
    this.#objects = objects;
    this.#state = state;
    this.#timer = setInterval(() => {
      this.#write(Date.now() + ALIVE_MS).catch((error) =>
        log.warn('cannot tell that a collection goes on', { error }),
      );
    }, ALIVE_MS / 4);
  }

  static async begin(objects: ObjectStore, graceMs: number, signal: AbortSignal | undefined): Promise<Run> {
    const other = await readState(objects, signal);
    if (other && other.until > Date.now()) {
      const until = new Date(other.until).toISOString();
      throw new StoreError(
        'UNAVAILABLE',
        `${objects.address}: another collection is under way, or was killed: try again after ${until}`,
      );
    }
    const run = new Run(objects, { id: randomUUID(), until: 0, graceMs });
    try {
      await run.#write(Date.now() + ALIVE_MS);
      const facts = await objects.facts(STATE_KEY, signal);
      if (facts) run.#ahead = facts.modified - Date.now();
      await delay(NOTICE_MS, undefined, { signal });
      const mine = await readState(objects, signal);
      if (mine?.id === run.#state.id) return run;
      throw new StoreError(
        'UNAVAILABLE',
        `${objects.address}: another collection has begun at the same time`,
      );
    } catch (error) {
      clearInterval(run.#timer);
      if (signal?.aborted) await run.end();
      throw error;
    }
  }

  /** By the clock of the store. */
  readonly now = (): number => Date.now() + this.#ahead;

  async end(): Promise<void> {
    clearInterval(this.#timer);
    await this.#write(Date.now()).catch((error) =>
      log.warn('cannot tell that a collection has ended', { error }),
    );
  }

  #write(until: number): Promise<void> {
    return writeState(this.#objects, { ...this.#state, until });
  }
}
