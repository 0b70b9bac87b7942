import { setTimeout as delay } from 'node:timers/promises';
import { alongChunks } from '../../castore/blob/along-chunks.ts';
import type { Chunk } from '../../castore/blob/service.ts';
import { Digest } from '../../castore/digest.ts';
import { orAborted } from '../../util/async/abort.ts';
import type { ArrivalListener } from '../../util/async/arrivals.ts';
import { arrivalListener, watchArrivals } from '../../util/async/arrivals.ts';
import { damaged } from '../../util/errors.ts';
import type { ChunkList, ChunkRange } from './chunk-list.ts';
import type { Progress } from './options.ts';

/** Bytes brought beyond what has been asked for. The connection has up to 4 MiB more under way. */
const AHEAD = 512 << 10;
/** A reader further ahead than this, in bytes, is not waited for: it has jumped. */
const MAX_JUMP = 8 << 20;
/** A stream that nobody follows, or that brings nothing, is given up after this long, in milliseconds. */
const IDLE_MS = 5_000;
/** One of which nothing has come for so long is silent: it may have been lost on its way, in milliseconds. */
const SILENT_MS = 1500;

/** Source and recipient of a stream. */
export interface StreamOptions {
  /** Begins to read the blob from its start; what has come when that ends well is all of the blob. */
  readonly read: (signal: AbortSignal) => Promise<AsyncIterable<Uint8Array>>;
  /** Takes a chunk that was missing and is right. */
  readonly take: (chunk: Chunk, bytes: Uint8Array) => void;
  /** Hears of what arrives. */
  readonly onArrival: ArrivalListener;
}

/**
 * One call that brings a large blob to a reader who reads it in order: a call for each chunk costs either side
 * more than what is in the chunk. It keeps a little ahead of its reader and waits there.
 */
export class BlobStream {
  /** Resolves when all of the blob has come and its chunks are those of the list; rejects when not. */
  readonly ended: Promise<void>;
  readonly #list: ChunkList;
  readonly #options: StreamOptions;
  readonly #stop = new AbortController();
  readonly #idle = setTimeout(() => void this.stop(), IDLE_MS).unref();
  /** The chunk that comes next, and the one before which the stream waits. */
  #next = 0;
  #until = 0;
  #resume: PromiseWithResolvers<void> | undefined;
  /** When something came last, or was to come at the earliest. */
  #heardAt = performance.now();
  /** Those who wait. */
  readonly #waiting = new Set<ArrivalListener>();
  /** Settles when the next chunk has come. */
  #step = quietly(Promise.withResolvers<void>());

  constructor(list: ChunkList, options: StreamOptions) {
    this.#list = list;
    this.#options = options;
    const run = () => this.#run();
    this.ended = watchArrivals((bytes) => this.#arrived(bytes), run).finally(() => clearTimeout(this.#idle));
    this.ended.catch((error) => this.#step.reject(error));
  }

  /** Whether the chunks before `end` are on their way, or may be soon. */
  brings({ first, end }: ChunkRange): boolean {
    if (this.#stop.signal.aborted || end <= this.#next) return false;
    return this.#list.start(first) - this.#list.start(this.#next) <= MAX_JUMP;
  }

  /** Resolves when the chunks before `end` have come. Rejects when the stream ends before. */
  async reach(end: number, progress: Progress, signal: AbortSignal): Promise<void> {
    const until = this.#list.overlapping(this.#list.start(end) + AHEAD, 1).end;
    this.#until = Math.max(this.#until, until);
    this.#goOn();
    this.#idle.refresh();
    const listener = arrivalListener();
    const onArrival = (bytes: number) => listener?.(bytes);
    this.#waiting.add(onArrival);
    try {
      while (this.#next < end) {
        await orAborted(this.#step.promise, signal);
        progress();
      }
    } finally {
      this.#waiting.delete(onArrival);
    }
  }

  /** Has a stream that waits for its reader bring more. */
  #goOn(): void {
    if (!this.#resume) return;
    this.#heardAt = performance.now();
    this.#resume.resolve();
    this.#resume = undefined;
  }

  /** Whether something was to come, and nothing has for some time. */
  get isSilent(): boolean {
    return !this.#resume && performance.now() - this.#heardAt >= SILENT_MS;
  }

  /** Resolves when it is silent. */
  async silence(signal: AbortSignal): Promise<void> {
    while (!this.isSilent) await delay(SILENT_MS / 4, undefined, { signal, ref: false });
  }

  #heard(): void {
    this.#heardAt = performance.now();
    this.#idle.refresh();
  }

  #arrived(bytes: number): void {
    this.#heard();
    for (const tell of this.#waiting) tell(bytes);
    this.#options.onArrival(bytes);
  }

  async #run(): Promise<void> {
    const { chunks } = this.#list;
    const { signal } = this.#stop;
    const contents = await this.#options.read(signal);
    for await (const bytes of alongChunks(contents, chunks)) {
      signal.throwIfAborted();
      const chunk = chunks[this.#next]!;
      // Those that are there, too: the end of the stream proves all of the list.
      if (!Digest.hash(bytes).equals(chunk.digest)) throw damaged('a blob is not what its chunks are');
      if (this.#list.isMissing(chunk)) this.#options.take(chunk, bytes);
      this.#next++;
      this.#heard();
      this.#step.resolve();
      this.#step = quietly(Promise.withResolvers<void>());
      if (this.#next < this.#until || this.#next === chunks.length) continue;
      this.#resume = Promise.withResolvers<void>();
      await orAborted(this.#resume.promise, signal);
    }
  }

  /** Ends it; resolves when it takes nothing any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.ended.catch(() => {});
  }
}

/** Marks a promise that nobody may be waiting for. */
function quietly(step: PromiseWithResolvers<void>): PromiseWithResolvers<void> {
  step.promise.catch(() => {});
  return step;
}
