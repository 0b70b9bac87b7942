import type { Freed } from '../../castore/local/collector.ts';
import { Collector } from '../../castore/local/collector.ts';
import { rowsAtOnce } from '../../castore/local/reserve.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Table } from '../../castore/local/table.ts';
import type { Node } from '../../castore/node.ts';
import { latin1 } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { NarSweep } from '../nar/sweep.ts';
import { PathInfoTable } from '../path-info/local.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import { SideFileSweep } from '../side-files/sweep.ts';
import { CONDEMNED, restore } from './condemned.ts';
import type { Holder } from './holders.ts';
import { describeHolder, heldByMounts, heldByName, RecentUses } from './holders.ts';
import { rememberCollection } from './last-gc.ts';
import { RootTable } from './roots.ts';
import { UseTable } from './uses.ts';

/** Path infos taken away in one transaction. */
const BATCH = 256;

export interface GcOptions {
  /** Paths that were put or asked for within so many seconds stay. */
  readonly olderThan: number;
  readonly dryRun: boolean;
  /** Told of each store path, and by what it is held if it is. */
  readonly onPath?: (info: PathInfo, heldBy: string | undefined) => void;
  /** Told of each store path that is looked at. */
  readonly onProgress?: () => void;
}

export interface GcReport extends Freed {
  /** Store paths that are gone, and that are left. */
  paths: number;
  kept: number;
}

/**
 * Frees the store paths that nothing holds: no root, no running mount, no use of late, and no reference from
 * one that is held. Then what they alone referred to goes. For how this is safe while others work in the store,
 * see collector.ts for what is below the path infos; for these themselves:
 *
 * A path info is deleted in a transaction that looks at its use first: a writer that has put it, or said that
 * it is there, has noted its epoch there in a transaction of its own, and a root that is added is noted as well.
 *
 * A mount notes no use; it pins a path (pins.ts), and then looks again whether the path info is there. The
 * collector moves the path info out of sight first (to `condemned`), and then looks at the pins: one of the two
 * sees the other. What turns out to be pinned is moved back. A collector that was killed in between may have
 * missed a pin, so the next one moves everything back before it begins.
 *
 * What refers goes before what is referred to, so that at no time a path info is there without its references.
 */
export async function collectGarbage(store: LocalStore, options: GcOptions): Promise<GcReport> {
  if (store.env.kind !== 'store') {
    throw new StoreError(
      'FAILED_PRECONDITION',
      `${store.env.dir} is a cache, which has no roots: say with --max-size how large it may be`,
    );
  }
  const collector = Collector.begin(store, options.dryRun);
  try {
    const paths = new Paths(store, collector.cutoff, options);
    const gone = await paths.collect();
    const { dryRun } = options;
    const nars = new NarSweep(store, collector.cutoff);
    const sideFiles = new SideFileSweep(store, collector.cutoff);
    const onMarked = async () => {
      if (dryRun) return;
      await nars.run();
      await sideFiles.run();
    };
    const onKept = (info: PathInfo) => {
      nars.keep(info);
      sideFiles.keep(info);
    };
    const roots = async function* () {
      yield* paths.remaining(gone, onKept);
      yield* sideFiles.roots();
    };
    const freed = await collector.sweep(roots(), { dryRun, onBroken, onMarked });
    if (!dryRun) rememberCollection(store.env.dir, { finished: Date.now(), paths: gone.size });
    return { ...freed, paths: gone.size, kept: paths.count() - (dryRun ? gone.size : 0) };
  } finally {
    collector.end();
  }
}

let complained = false;

function onBroken(): void {
  if (!complained) log.warn('the store is damaged: tvix-store fsck tells more');
  complained = true;
}

/** The store paths during a collection; all sets and maps go by the hash. */
class Paths {
  readonly #store: LocalStore;
  readonly #infos: PathInfoTable;
  readonly #uses: UseTable;
  readonly #condemned: Table;
  readonly #recent: RecentUses;
  readonly #options: GcOptions;
  /** Store paths that are held, and what holds them. */
  readonly #held = new Map<string, string>();

  constructor(store: LocalStore, cutoff: number, options: GcOptions) {
    this.#store = store;
    this.#infos = new PathInfoTable(store.env);
    this.#uses = new UseTable(store.env);
    this.#condemned = store.env.table(CONDEMNED);
    this.#recent = new RecentUses(store.env, cutoff, options.olderThan);
    this.#options = options;
  }

  count(): number {
    this.#store.env.refresh();
    return this.#infos.table.count;
  }

  /** Takes away what nothing holds; gives the hashes. */
  async collect(): Promise<Set<string>> {
    const { dryRun, onPath } = this.#options;
    if (!dryRun) {
      for (const { key } of this.#condemned.rows()) this.#restore(key);
      new RootTable(this.#store.env).removeExpired();
      this.#uses.endFuture();
    }
    await this.#holdAll();
    const candidates = await this.#candidates();
    const gone = new Set<string>();
    for (let next = 0; next < candidates.length; ) {
      const batch = candidates.slice(next, next + rowsAtOnce(this.#store.env.dir, BATCH));
      next += batch.length;
      const work = () => batch.filter((info) => this.#take(info)).map(({ storePath }) => storePath.hash);
      for (const hash of dryRun ? work() : this.#store.env.transaction(work)) gone.add(latin1(hash));
    }
    if (!dryRun) {
      for (const { hash, holder } of heldByMounts(this.#store.env)) this.#hold(hash, holder);
      for (const hash of gone) if (this.#held.has(hash)) gone.delete(hash);
      this.#store.env.transaction(() => this.#condemned.clearSync());
    }
    for (const info of candidates) onPath?.(info, this.#held.get(latin1(info.storePath.hash)));
    return gone;
  }

  /** The trees of the store paths that are left. */
  async *remaining(gone: ReadonlySet<string>, onKept: (info: PathInfo) => void): AsyncGenerator<Node> {
    for await (const info of this.#infos.all()) {
      // After a dry run, those that would go are still there.
      if (this.#options.dryRun && gone.has(latin1(info.storePath.hash))) continue;
      onKept(info);
      this.#options.onProgress?.();
      yield info.node;
    }
  }

  async #holdAll(): Promise<void> {
    const { env } = this.#store;
    for (const { hash, holder } of heldByName(env)) this.#hold(hash, holder);
    for await (const { storePath } of this.#infos.all()) {
      const holder = this.#recent.holder(storePath.hash);
      if (holder) this.#hold(storePath.hash, holder);
    }
  }

  /** Holds a path and what it refers to. */
  #hold(hash: Uint8Array, holder: Holder): void {
    const queue = [{ hash, heldBy: describeHolder(holder) }];
    for (let next = queue.pop(); next; next = queue.pop()) {
      const key = latin1(next.hash);
      if (this.#held.has(key)) continue;
      this.#restore(next.hash);
      const info = this.#infos.get(next.hash);
      if (!info) continue;
      this.#held.set(key, next.heldBy);
      for (const reference of info.references)
        queue.push({ hash: reference.hash, heldBy: `${info.storePath}` });
    }
  }

  /** Finds the paths that nothing seems to hold, each before its references. Reports the held ones to `onPath`. */
  async #candidates(): Promise<PathInfo[]> {
    const candidates = new Map<string, PathInfo>();
    for await (const info of this.#infos.all()) {
      const key = latin1(info.storePath.hash);
      const heldBy = this.#held.get(key);
      if (heldBy === undefined) candidates.set(key, info);
      else this.#options.onPath?.(info, heldBy);
    }
    const ordered: PathInfo[] = [];
    const seen = new Set<string>();
    for (const key of candidates.keys()) {
      // Depth first: a path is put down when all that it refers to has been.
      const stack = [{ key, next: 0 }];
      while (stack.length > 0) {
        const top = stack.at(-1)!;
        const info = candidates.get(top.key);
        if (!info || (top.next === 0 && seen.has(top.key))) {
          stack.pop();
          continue;
        }
        seen.add(top.key);
        const reference = info.references[top.next++];
        if (reference) stack.push({ key: latin1(reference.hash), next: 0 });
        else {
          ordered.push(info);
          stack.pop();
        }
      }
    }
    return ordered.reverse();
  }

  /** Moves a path info out of sight unless something holds it by now. Runs in a transaction. */
  #take({ storePath: { hash } }: PathInfo): boolean {
    if (this.#held.has(latin1(hash))) return false;
    const holder = this.#recent.holder(hash);
    if (holder) {
      this.#hold(hash, holder);
      return false;
    }
    if (this.#options.dryRun) return true;
    const row = this.#infos.table.get(hash);
    if (!row) return false;
    this.#condemned.putSync(hash, row);
    this.#infos.table.removeSync(hash);
    this.#uses.table.removeSync(hash);
    return true;
  }

  /** Moves a path info back, unless it has been put again. */
  #restore(hash: Uint8Array): void {
    if (!this.#condemned.has(hash)) return;
    this.#store.env.transaction(() => restore(this.#condemned, this.#infos.table, hash));
  }
}
