import { StoreError } from '../errors.ts';
import { arrivalListener, watchArrivals } from './arrivals.ts';

/** Fewer bytes than these, while they are waited for so long at first, in milliseconds, are no more than drops. */
const LEAST_BYTES = 32 << 10;
export const DRIPPING_MS = 4000;

/** Ends a stream of contents that does no more than drip while somebody waits for it. */
export class DripWatch {
  readonly #everyMs: number;
  readonly #drips = new AbortController();
  #arrived = 0;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
  }

  /** Begins the stream, whose bytes are counted; its signal says when it only drips. */
  begin<T>(work: (signal: AbortSignal) => T): T {
    const listener = arrivalListener();
    const onArrival = (bytes: number) => {
      this.#arrived += bytes;
      listener?.(bytes);
    };
    return watchArrivals(onArrival, () => work(this.#drips.signal));
  }

  /** Hands on what comes. `isEnded` says whether it is to be ended, if it only drips. */
  async *watch(parts: AsyncIterable<Uint8Array>, isEnded: () => boolean): AsyncGenerator<Uint8Array> {
    const look = () => {
      const drops = this.#arrived;
      this.#arrived = 0;
      if (drops < LEAST_BYTES && isEnded())
        this.#drips.abort(new StoreError('UNAVAILABLE', 'what is read only drips'));
    };
    const iterator = parts[Symbol.asyncIterator]();
    try {
      for (;;) {
        this.#arrived = 0;
        const timer = setInterval(look, this.#everyMs).unref();
        const next = await iterator.next().finally(() => clearInterval(timer));
        if (next.done) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }
}
