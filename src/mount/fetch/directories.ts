import type { Digest } from '../../castore/digest.ts';
import type { DirectoryService } from '../../castore/directory/service.ts';
import type { Directory } from '../../castore/directory.ts';
import { arrivalListener, watchArrivals } from '../../util/async/arrivals.ts';
import { damaged } from '../../util/errors.ts';
import { DirectoryStream } from './directory-stream.ts';
import type { Keeper } from './keeper.ts';
import type { Progress } from './options.ts';
import type { Transfers } from './transfers.ts';

/** A directory that a stream has not brought after so long is asked for by itself, in milliseconds. */
const PATIENCE_MS = 250;

/** Streams at once; of one that stands still, up to 4 MiB may have arrived unread. */
const MAX_STREAMS = 32;

/**
 * Gets directories. The first that is missing brings what is below it in the same request, so that a tree costs one
 * round trip; whoever needs one of them waits only until that one has come.
 */
export class DirectoryFetcher {
  readonly #service: DirectoryService;
  readonly #keeper: Keeper;
  readonly #transfers: Transfers;
  readonly #streams = new Set<DirectoryStream>();
  #isClosed = false;

  constructor(service: DirectoryService, keeper: Keeper, transfers: Transfers) {
    this.#service = service;
    this.#keeper = keeper;
    this.#transfers = transfers;
  }

  /** `isPatient`: for who is in no hurry, and waits for a stream that brings it. */
  async fetch(digest: Digest, progress: Progress, signal: AbortSignal, isPatient = false): Promise<void> {
    // It may have come for another while this was on its way.
    if (this.#keeper.has('directory', digest)) return;
    for (const stream of this.#streams) {
      if (!stream.brings(digest)) continue;
      return isPatient ? stream.reach(digest, signal) : this.#await(stream, digest, signal);
    }
    const listener = arrivalListener();
    const onArrival = (bytes: number) => {
      listener?.(bytes);
      this.#transfers.arrived(bytes);
    };
    const read = (until: AbortSignal) => this.#service.getRecursive(digest, until);
    const take = (directory: Directory) => this.#keeper.directory(directory);
    const stream = watchArrivals(onArrival, () => new DirectoryStream(digest, read, take, progress));
    if (this.#streams.size >= MAX_STREAMS) [...this.#streams].find((one) => one.isStill)?.stop();
    this.#streams.add(stream);
    void stream.ended.then(() => this.#streams.delete(stream));
    if (this.#isClosed) stream.stop();
    await stream.reach(digest, signal);
  }

  /** Waits for the stream, but not for long: it comes in an order of its own. */
  async #await(stream: DirectoryStream, digest: Digest, signal: AbortSignal): Promise<void> {
    const impatient = new AbortController();
    const timer = setTimeout(() => impatient.abort(), PATIENCE_MS);
    try {
      return await stream.reach(digest, AbortSignal.any([signal, impatient.signal]));
    } catch (error) {
      if (!impatient.signal.aborted || signal.aborted) throw error;
    } finally {
      clearTimeout(timer);
    }
    const directory = await this.#service.get(digest, signal);
    if (!directory) throw damaged(`directory ${digest} is missing`);
    if (!directory.digest.equals(digest)) throw damaged(`got directory ${directory.digest} for ${digest}`);
    this.#keeper.directory(directory);
  }

  close(): void {
    this.#isClosed = true;
    for (const stream of this.#streams) stream.stop();
  }
}
