import { StoreError } from '../../util/errors.ts';

/** Counts calls under way, so that a flood of them is refused instead of piling up. */
export class CallLimit {
  readonly #most: number;
  #running = 0;
  /** Bytes of answers that wait to be taken. */
  untaken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get running(): number {
    return this.#running;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#most)
      throw new StoreError('RESOURCE_EXHAUSTED', 'too many calls at once; try again');
    this.#running++;
    try {
      return await work();
    } finally {
      this.#running--;
    }
  }
}
