import { setMaxListeners } from 'node:events';
import { LRUCache } from 'lru-cache';
import type { NarInfo } from '../../nix/narinfo/narinfo.ts';
import { orAborted } from '../../util/async/abort.ts';
import { arrivalListener, watchArrivals } from '../../util/async/arrivals.ts';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { asBuffer, latin1 } from '../../util/bytes.ts';
import { damaged, messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { ingestNar } from '../nar/ingest.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { PathSource, Services } from '../services.ts';
import { hasContentAddress, isAddressOfPath } from '../trust/content-address.ts';
import type { BinaryCache } from './binary-cache.ts';
import type { Attempt } from './hedge.ts';
import { hedged } from './hedge.ts';
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
  readonly #questions = new SingleFlight<NarInfo | undefined>();
  readonly #transfers = new SingleFlight<PathInfo | undefined>();
  /** Told of whatever comes: those who wait for their turn wait no less for these bytes. */
  readonly #listeners = new Set<() => void>();
  readonly #missing = new LRUCache<string, true>({ max: MAX_MISSING, ttl: MISSING_MS });
  /** Caches that let us wait for an answer the last time. */
  readonly #slow = new Set<BinaryCache>();
  /** Caches whose NARs came too slowly of late. */
  readonly #demoted = new LRUCache<BinaryCache, true>({ max: MAX_DEMOTED, ttl: DEMOTED_MS });
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();

  constructor(caches: readonly BinaryCache[], target: Services) {
    this.#caches = caches;
    this.#target = target;
    // Everything that is under way listens to it.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Gives the caches' description of a path, checked as far as that goes without its contents. */
  async describe(hash: Uint8Array, signal?: AbortSignal): Promise<NarInfo | undefined> {
    const key = latin1(hash);
    if (this.#missing.has(key)) return undefined;
    const work = this.#questions.run(key, async () => {
      for await (const { info } of this.#offers(hash)) return info;
      return undefined;
    });
    return orAborted(work, signal);
  }

  /** Takes a path into the store, even if it is there. */
  async fetch(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    const key = latin1(hash);
    if (this.#missing.has(key)) return undefined;
    // Nobody who leaves ends it: this call has no signal.
    const work = this.#transfers.run(key, () => this.#transfer(hash));
    return orAborted(this.#tracked(work), signal);
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

  watch(onProgress: () => void): () => void {
    // One that watches twice is told until it has stopped both.
    const listener = () => onProgress();
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async *#offers(hash: Uint8Array): AsyncGenerator<Offer> {
    const asked = this.#caches.map((cache) => ({
      isPrompt: !this.#slow.has(cache) && !this.#demoted.has(cache),
      answer: this.#ask(cache, hash),
    }));
    let any = false;
    for await (const offer of bestFirst(asked, PATIENCE_MS)) {
      any = true;
      yield offer;
    }
    if (!any) this.#missing.set(latin1(hash), true);
  }

  async #ask(cache: BinaryCache, hash: Uint8Array) {
    const timer = setTimeout(() => this.#slow.add(cache), PATIENCE_MS);
    const begun = performance.now();
    try {
      const info = await cache.narInfo(hash, this.#closing.signal);
      const priority = cache.priority + (this.#demoted.has(cache) ? DEMOTION : 0);
      return info && { value: { cache, info }, priority };
    } finally {
      clearTimeout(timer);
      if (performance.now() - begun < PATIENCE_MS) this.#slow.delete(cache);
    }
  }

  #transfer(hash: Uint8Array): Promise<PathInfo | undefined> {
    return hedged(this.#offers(hash), (offer, attempt) => this.#tracked(this.#attempt(offer, attempt)));
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
    const nar = cache.nar(info, signal);
    const ingested = watchArrivals(onArrival, () => this.#ingest(where, nar, signal));
    const { node, narSize, narSha256 } = await ingested.finally(() => pace.stop());
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

  async #ingest(where: string, nar: AsyncIterable<Uint8Array>, signal: AbortSignal) {
    const onArrival = arrivalListener();
    let before = 0;
    const onProgress = (bytes: number) => {
      for (const tell of this.#listeners) tell();
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
