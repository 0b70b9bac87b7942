import { setMaxListeners } from 'node:events';
import { LRUCache } from 'lru-cache';
import { holding } from '../../castore/local/holds.ts';
import type { NarInfo } from '../../nix/narinfo/narinfo.ts';
import { arrivalListener, watchArrivals } from '../../util/async/arrivals.ts';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { asBuffer, latin1 } from '../../util/bytes.ts';
import { damaged, messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { ingestNar } from '../nar/ingest.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { HeldPath, NarListener, PathSource, Services, SignedRoots } from '../services.ts';
import { hasContentAddress, isAddressOfPath } from '../trust/content-address.ts';
import type { BinaryCache } from './binary-cache.ts';
import type { CastoreOptions } from './by-castore.ts';
import { CastorePaths } from './by-castore.ts';
import type { Attempt } from './hedge.ts';
import { hedged } from './hedge.ts';
import type { KeptTrees } from './kept-trees.ts';
import { Pace } from './pace.ts';
import { bestFirst } from './race.ts';

/** A path that no cache has is not asked for again for so long, in milliseconds. */
const MISSING_MS = 10_000;
const MAX_MISSING = 100_000;
/** Once a cache has a path, those that are preferred have so long to say that they have it, too. */
const PATIENCE_MS = 1000;
/** A cache whose NARs come too slowly is asked after the others for so long, in milliseconds. */
const DEMOTED_MS = 60_000;
/** Priorities are at most nine digits. */
const DEMOTION = 1e9;
const MAX_DEMOTED = 1000;
/** How often a path is fetched of which others evict a part at once. */
const FETCHES = 3;

/** An offer that has been looked at holds for so long, in milliseconds. */
const PASSED_MS = 5000;
const MAX_PASSED = 1000;

export interface SubstituterOptions extends CastoreOptions {
  /** The trees of the target, if parts of them may go. */
  readonly kept?: KeptTrees | undefined;
}

/** A path and the cache that has it. */
interface Offer {
  readonly cache: BinaryCache;
  readonly info: NarInfo;
}

/**
 * Takes store paths from binary caches into a store, whole. What has begun goes on when nobody waits for it any
 * more, as long as bytes flow.
 */
export class Substituter implements PathSource {
  readonly #caches: readonly BinaryCache[];
  readonly #target: Services;
  readonly #kept: KeptTrees | undefined;
  readonly #questions = new SingleFlight<NarInfo | undefined>();
  readonly #transfers = new SingleFlight<PathInfo | undefined>();
  /** Told of whatever comes: those who wait for their turn wait no less for these bytes. */
  readonly #listeners = new Set<() => void>();
  readonly #narListeners = new Map<string, Set<NarListener>>();
  readonly #missing = new LRUCache<string, true>({ max: MAX_MISSING, ttl: MISSING_MS });
  /** Caches that let us wait for an answer the last time. */
  readonly #slow = new Set<BinaryCache>();
  /** Caches whose NARs came too slowly of late. */
  readonly #demoted = new LRUCache<BinaryCache, true>({ max: MAX_DEMOTED, ttl: DEMOTED_MS });
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  /** If anybody might have castore contents. */
  readonly #castore: CastorePaths | undefined;
  /** By hash, offers that have been looked at and not taken. */
  readonly #passed = new LRUCache<string, Offer>({ max: MAX_PASSED, ttl: PASSED_MS });
  readonly signedRoots: SignedRoots | undefined;

  constructor(caches: readonly BinaryCache[], target: Services, options: SubstituterOptions = {}) {
    this.#caches = caches;
    this.#target = target;
    this.#kept = options.kept;
    const castores = caches.flatMap(({ castore }) => castore ?? []);
    if (castores.length > 0 || options.mirrored) {
      this.#castore = new CastorePaths(castores, target, options);
      this.signedRoots = { contents: this.#castore.contents, pathInfo: this.#signedRoot.bind(this) };
    }
    // Everything that is under way listens to it.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Gives the caches' description of a path, checked as far as that goes without its contents. */
  async describe(hash: Uint8Array, signal?: AbortSignal): Promise<NarInfo | undefined> {
    const key = latin1(hash);
    if (this.#missing.has(key)) return undefined;
    const ask = async (until: AbortSignal) => {
      for await (const { info } of this.#offers(hash, until, { mayBeKept: true })) return info;
      return undefined;
    };
    return this.#questions.run(key, ask, signal);
  }

  /** Takes a path into the store, even if it is there. */
  async fetch(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    const key = latin1(hash);
    if (this.#missing.has(key)) return undefined;
    // What has come of it stays until all of it is here.
    const transfer = (until: AbortSignal) =>
      this.#tracked(holding(this.#kept?.hold(), () => this.#transfer(hash, key, until)));
    return this.#transfers.run(key, transfer, signal);
  }

  /** The path that the best offer is of, if its root is signed and its contents can be had by castore. */
  async #signedRoot(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    const key = latin1(hash);
    if (this.#missing.has(key)) return undefined;
    const until = signal ?? this.#closing.signal;
    try {
      for await (const offer of this.#offers(hash, until)) {
        const found = await this.#castore?.signed(offer.cache, offer.info, until);
        if (found) return found;
        this.#passed.set(key, offer);
        return undefined;
      }
    } catch (error) {
      until.throwIfAborted();
      log.debug('no cache tells of a path', { error: messageOf(error) });
    }
    return undefined;
  }

  async held(hash: Uint8Array, signal?: AbortSignal): Promise<HeldPath | undefined> {
    for (let fetches = 0; ; fetches++) {
      const info = await this.#target.pathInfos.get(hash, signal);
      const release = info && (await this.#holdWhole(info));
      if (release) return { info, release };
      if (fetches === FETCHES)
        throw new StoreError('UNAVAILABLE', `${info?.storePath} is evicted as soon as it has been fetched`);
      if (!(await this.fetch(hash, signal))) return undefined;
    }
  }

  async #holdWhole({ node }: PathInfo): Promise<(() => void) | undefined> {
    return this.#kept ? this.#tracked(this.#kept.holdWhole(node)) : () => {};
  }

  /** Has `close` wait for something. */
  #tracked<T>(work: Promise<T>): Promise<T> {
    const ended = work.then(
      () => {},
      () => {},
    );
    this.#running.add(ended);
    void ended.then(() => this.#running.delete(ended));
    return work;
  }

  listen(hash: Uint8Array, listener: NarListener): () => void {
    const key = latin1(hash);
    const listeners = this.#narListeners.get(key) ?? new Set();
    this.#narListeners.set(key, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#narListeners.delete(key);
    };
  }

  /** A NAR that listeners hear on its way. */
  async *#heard(hash: Uint8Array, nar: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const attempt = {};
    const key = latin1(hash);
    let offset = 0;
    for await (const part of nar) {
      for (const listener of this.#narListeners.get(key) ?? []) listener(part, offset, attempt);
      offset += part.length;
      yield part;
    }
  }

  async sideFile(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined> {
    const either = AbortSignal.any([this.#closing.signal, signal]);
    for (const cache of this.#caches) {
      try {
        const found = await cache.file(name, either);
        if (found) return found;
      } catch (error) {
        either.throwIfAborted();
        log.debug('a cache failed', { error: messageOf(error) });
      }
    }
    return undefined;
  }

  watch(onProgress: () => void): () => void {
    // One that watches twice is told until it has stopped both.
    const listener = () => onProgress();
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What the caches offer. They are asked until the signal fires, or whoever wants to know has heard enough. */
  async *#offers(hash: Uint8Array, until: AbortSignal, { mayBeKept = false } = {}): AsyncGenerator<Offer> {
    const key = latin1(hash);
    const passed = this.#passed.get(key);
    this.#passed.delete(key);
    if (passed) yield passed;
    const enough = new AbortController();
    const signal = AbortSignal.any([this.#closing.signal, until, enough.signal]);
    const others = this.#caches.filter((cache) => cache !== passed?.cache);
    const asked = others.map((cache) => ({
      isPrompt: !this.#slow.has(cache) && !this.#demoted.has(cache),
      answer: this.#ask(cache, hash, mayBeKept, signal),
    }));
    let any = passed !== undefined;
    try {
      for await (const offer of bestFirst(asked, PATIENCE_MS)) {
        any = true;
        yield offer;
      }
    } finally {
      enough.abort();
    }
    if (!any) this.#missing.set(key, true);
  }

  async #ask(cache: BinaryCache, hash: Uint8Array, mayBeKept: boolean, signal: AbortSignal) {
    const timer = setTimeout(() => this.#slow.add(cache), PATIENCE_MS);
    const begun = performance.now();
    try {
      const info = await cache.narInfo(hash, signal, { mayBeKept });
      const priority = cache.priority + (this.#demoted.has(cache) ? DEMOTION : 0);
      return info && { value: { cache, info }, priority };
    } finally {
      clearTimeout(timer);
      if (performance.now() - begun < PATIENCE_MS) this.#slow.delete(cache);
    }
  }

  /** Takes a path from a cache that has it. While that is not known, it is given up when nobody waits any more. */
  async #transfer(hash: Uint8Array, key: string, until: AbortSignal): Promise<PathInfo | undefined> {
    const done = new AbortController();
    const begin = async (offer: Offer, attempt: Attempt) => {
      until.throwIfAborted();
      this.#transfers.keep(key);
      return this.#tracked(this.#attempt(offer, attempt));
    };
    try {
      return await hedged(this.#offers(hash, AbortSignal.any([until, done.signal])), begin);
    } finally {
      done.abort();
    }
  }

  /** Takes a path from a cache in its turn there, and says so when it comes too slowly. */
  async #attempt(offer: Offer, { signal, onSlow }: Attempt): Promise<PathInfo> {
    const { cache } = offer;
    const either = AbortSignal.any([this.#closing.signal, signal]);
    let hasPlace = false;
    const pace = new Pace(() => {
      if (hasPlace) this.#demoted.set(cache, true);
      // Who waits for a place there is better off elsewhere.
      if (this.#demoted.has(cache)) onSlow();
    });
    try {
      return await cache.places.run(() => {
        hasPlace = true;
        pace.restart();
        return this.#take(offer, pace, either);
      }, either);
    } catch (error) {
      either.throwIfAborted();
      if (this.#caches.length > 1) log.warn('a cache failed', { error: messageOf(error) });
      throw error;
    } finally {
      pace.stop();
    }
  }

  async #take({ cache, info }: Offer, pace: Pace, signal: AbortSignal): Promise<PathInfo> {
    const where = `${info.storePath.absolute()} of ${cache.address}`;
    const listener = arrivalListener();
    const onArrival = (bytes: number) => {
      pace.arrived(bytes);
      listener?.(bytes);
    };
    const take = async () => {
      const tree = await this.#castore?.take(cache, info, { onProgress: () => this.#tell(), signal });
      return tree ?? this.#ingest(where, this.#heard(info.storePath.hash, cache.nar(info, signal)), signal);
    };
    const taken = watchArrivals(onArrival, take);
    const { node, narSize, narSha256 } = await taken.finally(() => pace.stop());
    if (narSize !== info.narSize)
      throw damaged(`${where}: its NAR has ${narSize} bytes, want ${info.narSize}`);
    if (!asBuffer(narSha256).equals(info.narSha256)) throw damaged(`${where}: its NAR has another hash`);
    await this.#target.directories.flush();
    await this.#target.blobs.flush();
    const ca = isAddressOfPath(info) ? info.ca : undefined;
    const { storePath, references } = info;
    const found = { storePath, node, references, narSize, narSha256 };
    if (ca && !(await hasContentAddress(this.#target, found, ca, signal))) {
      throw damaged(`${where}: its contents are not those of its content address`);
    }
    return this.#target.pathInfos.put({
      ...found,
      signatures: info.signatures,
      deriver: info.deriver,
      // No signature covers it: one that does not lead to the path is worth nothing.
      ca,
    });
  }

  #tell(): void {
    for (const tell of this.#listeners) tell();
  }

  async #ingest(where: string, nar: AsyncIterable<Uint8Array>, signal: AbortSignal) {
    const onArrival = arrivalListener();
    let before = 0;
    const onProgress = (bytes: number) => {
      this.#tell();
      onArrival?.(bytes - before);
      before = bytes;
    };
    try {
      return await ingestNar(nar, this.#target, { onProgress, signal });
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'INVALID_ARGUMENT') throw error;
      throw damaged(`${where}: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    this.#closing.abort(new StoreError('CANCELLED', 'the store is being closed'));
    await Promise.all(this.#caches.map((cache) => cache.close()));
    await Promise.all(this.#running);
  }
}
