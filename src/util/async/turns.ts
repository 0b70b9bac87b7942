/** How long work goes on before the event loop has its turn, in milliseconds. */
const SLICE_MS = 1;

const waiting: (() => void)[] = [];

/** One goes on at each turn of the event loop: however many there are, others wait for a slice at most. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    if (waiting.length === 1) setImmediate(goOn);
  });
}

function goOn(): void {
  waiting.shift()!();
  if (waiting.length > 0) setImmediate(goOn);
}

/**
 * Gives the event loop its turn from time to time, for long work that seldom has to wait for anything: what a local
 * store gives and a fast client takes at once would otherwise keep out everybody else, and signals, until it is done.
 */
export class Turns {
  readonly #signal: AbortSignal | undefined;
  #begun = performance.now();

  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  /** Whether it is time to `take` a turn. Cheap enough to ask at every step. */
  get isDue(): boolean {
    return performance.now() - this.#begun > SLICE_MS;
  }

  /** Lets the event loop go round. Throws the signal's reason when that has fired. */
  async take(): Promise<void> {
    await nextTurn();
    this.#signal?.throwIfAborted();
    this.#begun = performance.now();
  }
}
