import { addAbortListener } from 'node:events';
import { LRUCache } from 'lru-cache';
import type { Groups } from '../castore/bao/group-set.ts';
import type { DirectoryIndex } from '../castore/directory.ts';
import type { FreshItem, FreshPayload } from '../fs/fresh-source.ts';
import type { StoreNeed } from '../fs/need.ts';
import { describeNeed } from '../fs/need.ts';
import type { FetchMessage, SessionMessage } from '../fuse/dispatcher.ts';
import { watchArrivals } from '../util/async/arrivals.ts';
import { SingleFlight } from '../util/async/single-flight.ts';
import { isAway } from '../util/async/transient.ts';
import { CODES, messageOf, StoreError } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { Counts, Latencies } from '../util/metrics/counts.ts';
import { FailedNeeds } from './failed-needs.ts';

/** So many bytes are progress: from a peer that sends one now and then, nothing would ever be had. */
const PROGRESS_BYTES = 1024;
const MAX_REFUSALS = 10_000;

/** A thread that serves the kernel, as the fetch side sees it. */
export interface Server {
  send(message: FetchMessage): void;
  /** Makes the kernel forget what it keeps of a blob. */
  revoke?(blob: Uint8Array): void;
}

export interface HandOverOptions {
  /**
   * Meets a need; content goes out through `deliver` before it resolves. `progress` is to be called whenever a part has
   * come; of bytes on their way `watchArrivals` tells.
   */
  readonly fetch: (need: StoreNeed, progress: () => void, signal: AbortSignal) => Promise<void>;
  /** A need fails when nothing has arrived for it for this long, in milliseconds; with Infinity it never does. */
  readonly timeoutMs: number;
}

/**
 * The fetch side's half of the hand-over: takes what the serving threads lack, has it fetched once however
 * many ask, and answers. It never speaks to the kernel.
 */
export class HandOver {
  readonly #options: HandOverOptions;
  readonly #servers: Server[] = [];
  readonly #flights = new SingleFlight<void>();
  readonly #failed: FailedNeeds;
  /** How long it took to meet needs, by their kind; and those that could not be met, by the code of the failure. */
  readonly fetches = new Latencies();
  readonly failures = new Counts();
  /** Refusals that have been logged. */
  readonly #refusals = new LRUCache<string, true>({ max: MAX_REFUSALS });
  /** By server and key: how to leave. */
  readonly #waiting = new Map<Server, Map<string, AbortController>>();

  constructor(options: HandOverOptions) {
    this.#options = options;
    this.#failed = new FailedNeeds(options.timeoutMs);
  }

  add(server: Server): void {
    this.#servers.push(server);
    this.#waiting.set(server, new Map());
  }

  /** Forgets a server that has ended, and what it waited for. */
  remove(server: Server): void {
    this.#servers.splice(this.#servers.indexOf(server), 1);
    for (const leave of this.#waiting.get(server)!.values()) leave.abort();
    this.#waiting.delete(server);
  }

  /** Takes a message of a serving thread. */
  receive(server: Server, message: SessionMessage): void {
    const waiting = this.#waiting.get(server)!;
    switch (message.type) {
      case 'need':
        void this.#meet(server, message.need as StoreNeed, waiting);
        break;
      case 'leave':
        waiting.get(message.key)?.abort();
        break;
      case 'interrupt':
        for (const other of this.#servers) if (other !== server) other.send(message);
        break;
      case 'ping':
        server.send({ type: 'pong' });
        break;
      case 'there':
        break;
    }
  }

  async #meet(server: Server, need: StoreNeed, waiting: Map<string, AbortController>): Promise<void> {
    const leave = new AbortController();
    waiting.set(need.key, leave);
    const errno = await this.meet(need, leave.signal);
    if (waiting.get(need.key) === leave) waiting.delete(need.key);
    if (!leave.signal.aborted) server.send({ type: 'done', key: need.key, errno });
  }

  /** Meets a need; gives 0, or the errno to answer with. Only a store path may turn out not to exist. */
  async meet(need: StoreNeed, signal: AbortSignal): Promise<number> {
    const patience = this.#failed.patience(need);
    if (patience === 0) return CODES.INTERNAL.errno;
    try {
      await this.#flights.run(need.key, (shared) => this.#fetch(need, patience, shared), signal);
      return 0;
    } catch (error) {
      const code = error instanceof StoreError ? error.code : 'INTERNAL';
      if (code === 'NOT_FOUND' && need.kind === 'pathInfo') return CODES.NOT_FOUND.errno;
      if (!signal.aborted) this.failures.add(code);
      // When it is asked for once more, that has been said.
      const isSaid = (patience !== undefined && isAway(error)) || this.#isToldRefusal(error);
      if (!signal.aborted && !isSaid)
        log.error('cannot fetch', { what: describeNeed(need), error: messageOf(error) });
      return CODES.INTERNAL.errno;
    }
  }

  /** Whether this says that something is refused, and has been logged: it will be, however often it is asked for. */
  #isToldRefusal(error: unknown): boolean {
    if (!(error instanceof StoreError) || error.code !== 'PERMISSION_DENIED') return false;
    const isTold = this.#refusals.has(error.message);
    this.#refusals.set(error.message, true);
    return isTold;
  }

  /** `patience`: within how many milliseconds something has to come, if that is less than for others. */
  async #fetch(need: StoreNeed, patience: number | undefined, signal: AbortSignal): Promise<void> {
    const { fetch, timeoutMs } = this.#options;
    const stop = new AbortController();
    const late = Promise.withResolvers<never>();
    const end = () => {
      const reason = new StoreError('DEADLINE_EXCEEDED', `nothing arrived for ${timeoutMs / 1000} s`);
      stop.abort(reason);
      // Who has tried in vain all the while may say why, if it does so at once.
      setImmediate(() => late.reject(reason));
    };
    const after = (ms: number) => (ms === Number.POSITIVE_INFINITY ? undefined : setTimeout(end, ms).unref());
    let timer = after(patience === undefined ? timeoutMs : Math.min(patience, timeoutMs));
    const left = addAbortListener(signal, () => stop.abort());
    const begun = performance.now();
    let ended = false;
    let came = false;
    const progress = () => {
      came = true;
      if (ended) return;
      clearTimeout(timer);
      timer = after(timeoutMs);
    };
    let arrived = 0;
    const onArrival = (bytes: number) => {
      arrived += bytes;
      if (arrived < PROGRESS_BYTES) return;
      arrived = 0;
      progress();
    };
    try {
      const fetching = watchArrivals(onArrival, () => fetch(need, progress, stop.signal));
      await Promise.race([fetching, late.promise]);
      if (came) this.#failed.met(need);
    } catch (error) {
      if (!signal.aborted && isAway(error)) this.#failed.failed(need, performance.now() - begun);
      throw error;
    } finally {
      ended = true;
      this.fetches.observe(need.kind, performance.now() - begun);
      clearTimeout(timer);
      left[Symbol.dispose]();
    }
  }

  /** Gives up what is under way: nobody waits any more. */
  close(): void {
    for (const waiting of this.#waiting.values()) for (const leave of waiting.values()) leave.abort();
  }

  /** Hands content to every thread, whichever asked: the next to ask need not. */
  deliver(items: readonly FreshItem[]): void {
    this.#broadcast({ items });
  }

  settled(items: readonly Pick<FreshItem, 'kind' | 'key'>[]): void {
    this.#broadcast({ settled: items });
  }

  /** Hands a large directory that has been decoded to every thread. */
  indexed(digest: Uint8Array, index: DirectoryIndex): void {
    this.#broadcast({ indexed: { digest, index } });
  }

  proven(digest: Uint8Array, groups: Groups): void {
    this.#broadcast({ proven: { digest, groups } });
  }

  /** Takes back what was served of a blob. */
  revoke(blob: Uint8Array): void {
    this.#broadcast({ revoked: [blob] });
    for (const server of this.#servers) server.revoke?.(blob);
  }

  #broadcast(payload: FreshPayload): void {
    for (const server of this.#servers) server.send({ type: 'payload', payload });
  }
}
