import type { Channel } from '../../proto/grpc/channel.ts';
import { BLAKE3, CAPABILITIES } from '../../proto/grpc/methods.ts';
import { toBigInt } from '../../proto/long.ts';
import { orAborted } from '../../util/async/abort.ts';
import type { Code } from '../../util/errors.ts';
import { StoreError } from '../../util/errors.ts';

/** Bytes of blobs in a call: larger ones were no faster. */
const BATCH_LENGTH = 1 << 20;
/** What is said to who may not ask. Asked anything else, the peer will say the same, or not: that call tells of it. */
export const REFUSALS: readonly Code[] = ['PERMISSION_DENIED', 'UNAUTHENTICATED'];

/** Whether a peer takes and gives many blobs in one call, and how much. It is asked once. */
export class Batches {
  readonly #channel: Channel;
  #length: Promise<number> | undefined;
  #known = 0;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /** Most bytes of the blobs in one call; 0 where there are no such calls. */
  length(signal?: AbortSignal): Promise<number> {
    if (!this.#length) {
      this.#length = this.#ask();
      // A failure is not remembered.
      this.#length.catch(() => {
        this.#length = undefined;
      });
    }
    return orAborted(this.#length, signal);
  }

  /** As `length`, as far as it is known. Whoever asks does not wait: it is found out for the next. */
  get known(): number {
    if (!this.#length) this.length().catch(() => {});
    return this.#known;
  }

  async #ask(): Promise<number> {
    try {
      const { cacheCapabilities } = await this.#channel.unary(CAPABILITIES.get, {});
      if (!cacheCapabilities?.digestFunctions?.includes(BLAKE3)) return 0;
      const most = Number(toBigInt(cacheCapabilities.maxBatchTotalSizeBytes));
      this.#known = most === 0 ? BATCH_LENGTH : Math.min(most, BATCH_LENGTH);
      return this.#known;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (error.code === 'UNIMPLEMENTED') return 0;
      if (!REFUSALS.includes(error.code)) throw error;
      this.#length = undefined;
      return 0;
    }
  }
}
