import type { Digest } from '../../castore/digest.ts';
import type { Directory } from '../../castore/directory.ts';
import { orAborted } from '../../util/async/abort.ts';
import { damaged } from '../../util/errors.ts';
import type { Progress } from './options.ts';

/** Directories, and bytes of them, that are brought beyond the last that somebody waited for. */
const AHEAD = 4096;
const AHEAD_BYTES = 2 << 20;
/** A stream that stands still because nobody wants more of it is given up after this long, in milliseconds. */
const IDLE_MS = 5_000;

/**
 * A directory and what is below it, on its way. It goes on when the reader for whom it began has left, since others
 * will want the rest; but it keeps only a little ahead of what is wanted, and waits there.
 */
export class DirectoryStream {
  /** Resolves when nothing more will come, for whatever reason. */
  readonly ended: Promise<void>;
  /** Digests that it will still bring, as far as is known: the children of those that have come. */
  readonly #coming: Set<string>;
  /** By digest, what settles when that has come. */
  readonly #arrivals = new Map<string, PromiseWithResolvers<void>>();
  readonly #stop = new AbortController();
  readonly #take: (directory: Directory) => void;
  /** How many wait. */
  #waiting = 0;
  /** What has come since somebody waited. */
  #ahead = 0;
  #aheadBytes = 0;
  #resume: (() => void) | undefined;

  /** `read` begins to bring the directories; `take` gets each that was asked for; `progress` hears of each. */
  constructor(
    root: Digest,
    read: (signal: AbortSignal) => AsyncIterable<Directory>,
    take: (directory: Directory) => void,
    progress: Progress,
  ) {
    this.#coming = new Set([root.hex]);
    this.#take = take;
    this.ended = this.#run(read, progress);
  }

  /** Whether it is going to bring a directory. */
  brings({ hex }: Digest): boolean {
    return !this.#stop.signal.aborted && this.#coming.has(hex);
  }

  /** Whether it waits for somebody who wants more. */
  get isStill(): boolean {
    return this.#resume !== undefined;
  }

  /** Resolves when a directory has come that it brings. Rejects when the stream ends before. */
  async reach({ hex }: Digest, signal: AbortSignal): Promise<void> {
    let arrival = this.#arrivals.get(hex);
    if (!arrival) {
      arrival = Promise.withResolvers<void>();
      // It may fail when nobody waits any more.
      arrival.promise.catch(() => {});
      this.#arrivals.set(hex, arrival);
    }
    this.#waiting++;
    this.#resume?.();
    try {
      await orAborted(arrival.promise, signal);
    } finally {
      this.#waiting--;
    }
  }

  async #run(read: (signal: AbortSignal) => AsyncIterable<Directory>, progress: Progress): Promise<void> {
    let failure: unknown;
    try {
      for await (const directory of read(this.#stop.signal)) {
        progress();
        this.#arrived(directory);
        await this.#wanted();
      }
    } catch (error) {
      failure = error;
    }
    this.#coming.clear();
    for (const [hex, { reject }] of this.#arrivals) reject(failure ?? damaged(`directory ${hex} is missing`));
  }

  #arrived(directory: Directory): void {
    const { hex } = directory.digest;
    // Whatever nothing refers to was not asked for, and might fill the cache with anything.
    if (!this.#coming.delete(hex)) throw damaged(`got directory ${directory.digest} unasked`);
    for (const child of directory.children()) this.#coming.add(child.digest.hex);
    this.#take(directory);
    this.#arrivals.get(hex)?.resolve();
    this.#arrivals.delete(hex);
    if (this.#waiting > 0) this.#ahead = this.#aheadBytes = 0;
    this.#ahead++;
    this.#aheadBytes += directory.bytes.length;
  }

  /** Resolves when more is wanted. Throws when that has not been for a while. */
  async #wanted(): Promise<void> {
    this.#stop.signal.throwIfAborted();
    if (this.#waiting > 0 || (this.#ahead < AHEAD && this.#aheadBytes < AHEAD_BYTES)) return;
    const idle = setTimeout(() => this.stop(), IDLE_MS).unref();
    try {
      await orAborted(
        new Promise<void>((resolve) => {
          this.#resume = resolve;
        }),
        this.#stop.signal,
      );
    } finally {
      clearTimeout(idle);
      this.#resume = undefined;
    }
  }

  /** Ends it. */
  stop(): void {
    this.#stop.abort();
  }
}
