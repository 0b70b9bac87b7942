import type { Digest } from '../../castore/digest.ts';
import type { DirectoryService } from '../../castore/directory/service.ts';
import type { Directory } from '../../castore/directory.ts';
import { orAborted } from '../../util/async/abort.ts';
import { damaged } from '../../util/errors.ts';
import type { Keeper } from './keeper.ts';
import type { Progress } from './options.ts';

/** A directory that a stream has not brought after so long is asked for by itself, in milliseconds. */
const PATIENCE_MS = 250;

/** A closure on its way. */
interface Stream {
  /** Digests that it will still bring, as far as is known: the children of those that have come. */
  readonly coming: Set<string>;
  /** Those who wait, by digest. */
  readonly waiting: Map<string, PromiseWithResolvers<void>>;
}

/**
 * Gets directories. The first that is missing brings everything below it in the same request, so that a
 * tree costs one round trip; whoever needs one of them waits only until that one has come.
 */
export class DirectoryFetcher {
  readonly #service: DirectoryService;
  readonly #keeper: Keeper;
  readonly #streams = new Set<Stream>();
  readonly #closing = new AbortController();

  constructor(service: DirectoryService, keeper: Keeper) {
    this.#service = service;
    this.#keeper = keeper;
  }

  async fetch(digest: Digest, progress: Progress, signal: AbortSignal): Promise<void> {
    // It may have come for another while this was on its way.
    if (this.#keeper.has('directory', digest)) return;
    for (const stream of this.#streams) {
      if (stream.coming.has(digest.hex)) return this.#await(stream, digest, signal);
    }
    const stream: Stream = { coming: new Set([digest.hex]), waiting: new Map() };
    const arrival = arrivalOf(stream, digest);
    this.#streams.add(stream);
    // It goes on when this one reader leaves: others will want the rest.
    void this.#receive(stream, digest, progress);
    await orAborted(arrival, signal);
  }

  /** Waits for the stream, but not for long: it comes in an order of its own. */
  async #await(stream: Stream, digest: Digest, signal: AbortSignal): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const impatient = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), PATIENCE_MS);
    });
    const outcome = await orAborted(Promise.race([arrivalOf(stream, digest), impatient]), signal);
    clearTimeout(timer);
    if (outcome !== 'late') return;
    const directory = await this.#service.get(digest, signal);
    if (!directory) throw damaged(`directory ${digest} is missing`);
    if (!directory.digest.equals(digest)) throw damaged(`got directory ${directory.digest} for ${digest}`);
    this.#keeper.directory(directory);
  }

  async #receive(stream: Stream, root: Digest, progress: Progress): Promise<void> {
    let failure: unknown;
    try {
      for await (const directory of this.#service.getRecursive(root, this.#closing.signal)) {
        progress();
        // Whatever nothing refers to was not asked for, and might fill the cache with anything.
        if (!stream.coming.delete(directory.digest.hex))
          throw damaged(`got directory ${directory.digest} unasked`);
        for (const child of directory.children()) stream.coming.add(child.digest.hex);
        this.#take(stream, directory);
      }
    } catch (error) {
      failure = error;
    }
    this.#streams.delete(stream);
    for (const [hex, waiting] of stream.waiting)
      waiting.reject(failure ?? damaged(`directory ${hex} is missing`));
  }

  #take(stream: Stream, directory: Directory): void {
    const { hex } = directory.digest;
    this.#keeper.directory(directory);
    stream.waiting.get(hex)?.resolve();
    stream.waiting.delete(hex);
  }

  close(): void {
    this.#closing.abort();
  }
}

function arrivalOf(stream: Stream, digest: Digest): Promise<void> {
  let waiting = stream.waiting.get(digest.hex);
  if (!waiting) {
    waiting = Promise.withResolvers<void>();
    waiting.promise.catch(() => {});
    stream.waiting.set(digest.hex, waiting);
  }
  return waiting.promise;
}
