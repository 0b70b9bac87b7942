import { LRUCache } from 'lru-cache';
import { CachedBlobService } from '../../castore/blob/cached.ts';
import { LocalBlobService } from '../../castore/blob/local.ts';
import { CachedDirectoryService } from '../../castore/directory/cached.ts';
import { LocalDirectoryService } from '../../castore/directory/local.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { PublicKey } from '../../nix/key.ts';
import type { ArrivalListener } from '../../util/async/arrivals.ts';
import { arrivalListener, watchArrivals } from '../../util/async/arrivals.ts';
import { Limiter } from '../../util/async/limiter.ts';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { latin1 } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { PathInfoTable } from '../path-info/local.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import type { Contents } from '../services.ts';
import { CheckedPaths, checkedKey } from './checked-paths.ts';
import { Judge } from './judge.ts';
import { contentProblems } from './verify.ts';

/** Contents are read for at most so many paths at once. */
const CHECKED_AT_ONCE = 2;
const MAX_REMEMBERED = 100_000;
/** What was found wrong is not read again for so long, in milliseconds. */
const WRONG_MS = 10_000;

export interface BelieverOptions {
  /** Where contents are, to be used when all of a store has been opened. */
  readonly contents: Contents;
  /** The cache of this machine: what is read for a check is kept there, and what came of it. */
  readonly cache: () => LocalStore;
  /** Whether a list is of those path infos only that are believed already. */
  readonly listsBelieved: boolean;
}

/** What a cache keeps of checks. */
interface Kept {
  readonly store: LocalStore;
  readonly paths: CheckedPaths;
  readonly contents: Contents & { readonly blobs: CachedBlobService };
}

/**
 * Believes path infos of others: with a signature over the root by a trusted key at once; with one for Nix, or a content
 * address, once the whole NAR has been found to be what it should. That is done once, and noted in the cache.
 */
export class Believer {
  readonly listsBelieved: boolean;
  readonly #judge: Judge;
  readonly #options: BelieverOptions;
  readonly #places = new Limiter(CHECKED_AT_ONCE);
  /** Who is to hear of what arrives for others, until there is room. */
  readonly #waiting = new Set<ArrivalListener>();
  readonly #flights = new SingleFlight<string | undefined>();
  /** By `checkedKey`. */
  readonly #checked = new LRUCache<string, true>({ max: MAX_REMEMBERED });
  readonly #wrong = new LRUCache<string, string>({ max: MAX_REMEMBERED, ttl: WRONG_MS });
  #kept: Kept | undefined;

  constructor(keys: readonly PublicKey[], options: BelieverOptions) {
    this.#judge = new Judge(keys);
    this.#options = options;
    this.listsBelieved = options.listsBelieved;
  }

  /** Throws PERMISSION_DENIED for a path info that is not to be believed. `where` it is from, for people. */
  async believe(info: PathInfo, where: string, signal?: AbortSignal): Promise<void> {
    const verdict = this.#judge.verdict(info);
    if (verdict === 'believed') return;
    if (verdict === 'refused') throw this.#judge.refusal(info, where);
    if (this.#isChecked(info)) return;
    const key = latin1(checkedKey(info));
    const problem =
      this.#wrong.get(key) ?? (await this.#flights.run(key, (shared) => this.#check(info, shared), signal));
    if (problem === undefined) return;
    throw new StoreError(
      'PERMISSION_DENIED',
      `${info.storePath.absolute()} of ${where} is not what was signed: ${problem}`,
    );
  }

  /** Whether a path info is believed without anything being read for it. Throws PERMISSION_DENIED when it never is. */
  isBelieved(info: PathInfo, where: string): boolean {
    const verdict = this.#judge.verdict(info);
    if (verdict === 'refused') throw this.#judge.refusal(info, where);
    return verdict === 'believed' || this.#isChecked(info);
  }

  /** Throws PERMISSION_DENIED for a description that is not right whatever the contents are. */
  checkDescription(described: PathDescription, where: string): void {
    if (!this.#judge.vouchesFor(described)) throw this.#judge.refusal(described, where);
  }

  #isChecked(info: PathInfo): boolean {
    if (this.#checked.has(latin1(checkedKey(info)))) return true;
    try {
      return this.#keeping().paths.hasNow(info);
    } catch {
      return false;
    }
  }

  /** Gives what is wrong. */
  async #check(info: PathInfo, signal: AbortSignal): Promise<string | undefined> {
    log.debug('reading a whole path, which has no castore signature', { path: info.storePath.absolute() });
    const contents = this.#contents();
    const problems = await this.#inTurn(() => contentProblems(contents, info, signal), signal);
    const key = latin1(checkedKey(info));
    if (problems.length > 0) {
      this.#wrong.set(key, problems.join('; '));
      return problems.join('; ');
    }
    this.#checked.set(key, true);
    try {
      const { paths, store } = this.#keeping();
      await paths.note(info, store);
    } catch (error) {
      log.warn('cannot note that a path has been checked', { error: messageOf(error) });
    }
    return undefined;
  }

  /** Does it when there is room. Those who wait for their turn wait no less for what is read meanwhile. */
  async #inTurn<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const own = arrivalListener() ?? (() => {});
    const tell = (bytes: number) => {
      own(bytes);
      for (const other of this.#waiting) other(bytes);
    };
    this.#waiting.add(own);
    try {
      return await this.#places.run(() => {
        this.#waiting.delete(own);
        return watchArrivals(tell, work);
      }, signal);
    } finally {
      this.#waiting.delete(own);
    }
  }

  /** What is read for a check stays near: whoever wanted the path will read it. */
  #contents(): Contents {
    try {
      return this.#keeping().contents;
    } catch {
      return this.#options.contents;
    }
  }

  #keeping(): Kept {
    if (this.#kept) return this.#kept;
    const store = this.#options.cache();
    // One that is made for this has what any other has.
    new PathInfoTable(store.env);
    const { blobs, directories } = this.#options.contents;
    const contents = {
      blobs: new CachedBlobService(new LocalBlobService(store), blobs, 'far'),
      directories: new CachedDirectoryService(new LocalDirectoryService(store), directories, 'far'),
    };
    this.#kept = { store, paths: new CheckedPaths(store.env), contents };
    return this.#kept;
  }

  /** Resolves when what was read has been kept. */
  async settle(): Promise<void> {
    await this.#kept?.contents.blobs.settle();
  }
}
