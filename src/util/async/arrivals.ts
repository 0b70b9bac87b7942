import { AsyncLocalStorage } from 'node:async_hooks';

/** Hears that so many bytes have arrived. */
export type ArrivalListener = (bytes: number) => void;

const current = new AsyncLocalStorage<ArrivalListener>();

/**
 * Runs work whose bytes `listener` hears of as they arrive, long before they are whole messages or chunks: over a
 * slow line that is how something that comes is told from something that does not.
 */
export function watchArrivals<T>(listener: ArrivalListener, work: () => T): T {
  return current.run(listener, work);
}

/** For those who receive bytes: who is to hear of them. */
export function arrivalListener(): ArrivalListener | undefined {
  return current.getStore();
}

/** Tells of the parts of something that is being received, as they are handed on. */
export async function* tellingArrivals(parts: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const listener = arrivalListener();
  for await (const part of parts) {
    listener?.(part.length);
    yield part;
  }
}

/**
 * Tells of what arrives in many parts, at most every so many milliseconds; of the last of it, too, as soon as that time is
 * over: told later, it would look as if it had come later.
 */
export class ArrivalTeller {
  readonly #tell: ArrivalListener;
  readonly #everyMs: number;
  #untold = 0;
  #toldAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  constructor(tell: ArrivalListener, everyMs: number) {
    this.#tell = tell;
    this.#everyMs = everyMs;
  }

  arrived(bytes: number): void {
    this.#untold += bytes;
    if (this.#timer) return;
    const wait = this.#toldAt + this.#everyMs - performance.now();
    if (wait <= 0) this.#tellNow();
    else this.#timer = setTimeout(() => this.#tellNow(), wait).unref();
  }

  #tellNow(): void {
    this.#timer = undefined;
    this.#toldAt = performance.now();
    const bytes = this.#untold;
    this.#untold = 0;
    this.#tell(bytes);
  }

  /** Nothing more will arrive: tells of the rest. */
  end(): void {
    if (!this.#timer) return;
    clearTimeout(this.#timer);
    this.#tellNow();
  }
}
