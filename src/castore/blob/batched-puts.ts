import type { Channel } from '../../proto/grpc/channel.ts';
import { failureOfStatus } from '../../proto/grpc/failure.ts';
import { BLAKE3, CAS } from '../../proto/grpc/methods.ts';
import { orAborted } from '../../util/async/abort.ts';
import { Gathering } from '../../util/async/gathering.ts';
import type { LinePlaces } from '../../util/async/line-places.ts';
import { damaged } from '../../util/errors.ts';
import { named } from './present.ts';
import type { Chunk } from './service.ts';

/** Of what the line should have under way at once, a call is to be this part: a slow line loses little when it breaks. */
const PART_OF_LINE = 1 / 4;

interface Put extends PromiseWithResolvers<void> {
  readonly chunk: Chunk;
  readonly bytes: Uint8Array;
}

/** Sends small blobs to a peer, those that are put at the same time in one call. */
export class BatchedPuts {
  readonly #channel: Channel;
  readonly #places: LinePlaces;
  readonly #gathering: Gathering<Put>;

  /** `most`: bytes of the blobs in one call. */
  constructor(channel: Channel, places: LinePlaces, most: number) {
    this.#channel = channel;
    this.#places = places;
    this.#gathering = new Gathering({
      call: (puts) => this.#send(puts),
      sizeOf: ({ bytes }) => bytes.length,
      full: () => Math.min(most, places.limit * PART_OF_LINE),
    });
  }

  /** Resolves when the peer keeps it. */
  async put(chunk: Chunk, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const put = { chunk, bytes, ...Promise.withResolvers<void>() };
    this.#gathering.add(put);
    try {
      await orAborted(put.promise, signal);
    } catch (error) {
      this.#gathering.remove(put);
      throw error;
    }
  }

  async #send(puts: readonly Put[]): Promise<void> {
    const requests = puts.map(({ chunk, bytes }) => ({ digest: named(chunk), data: bytes }));
    const size = puts.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const call = () => this.#channel.unary(CAS.batchUpdate, { requests, digestFunction: BLAKE3 });
    try {
      const { responses } = await this.#places.run(size, call);
      const statuses = new Map(responses?.map(({ digest, status }) => [digest?.hash, status]));
      for (const put of puts) this.#settle(put, statuses);
    } catch (error) {
      for (const { reject } of puts) reject(error);
    }
  }

  #settle(
    { chunk, resolve, reject }: Put,
    statuses: ReadonlyMap<string | null | undefined, Status | null | undefined>,
  ): void {
    const { address } = this.#channel;
    const { code, message } = statuses.get(chunk.digest.hex) ?? {};
    if (!statuses.has(chunk.digest.hex))
      reject(damaged(`${address} does not say whether it has blob ${chunk.digest}`));
    else if (code) reject(failureOfStatus(address, code, message ?? ''));
    else resolve();
  }
}

interface Status {
  code?: number | null;
  message?: string | null;
}
