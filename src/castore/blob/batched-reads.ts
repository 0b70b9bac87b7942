import type { Channel } from '../../proto/grpc/channel.ts';
import { BLAKE3, CAS } from '../../proto/grpc/methods.ts';
import { orAborted } from '../../util/async/abort.ts';
import type { ArrivalListener } from '../../util/async/arrivals.ts';
import { arrivalListener, watchArrivals } from '../../util/async/arrivals.ts';
import { Gathering } from '../../util/async/gathering.ts';
import { CODES } from '../../util/errors.ts';
import { named } from './present.ts';
import type { Chunk } from './service.ts';

/** Bytes of blobs in a call: more would be late over a slow line, since all of them come in one message. */
const BATCH_LENGTH = 256 << 10;
/** What a blob takes in a message besides its contents, in bytes. */
const OVERHEAD = 100;

/** What a peer says of a blob: its contents, that it is not there, or that it has to be asked for by itself. */
export type Given = { readonly bytes: Uint8Array } | 'absent' | 'alone';

interface Read extends PromiseWithResolvers<Given> {
  readonly chunk: Chunk;
  readonly listener: ArrivalListener | undefined;
}

/** Gets small blobs of a peer, those that are wanted at the same time in one call. What comes has not been checked. */
export class BatchedReads {
  readonly #channel: Channel;
  /** Whoever asks waits for it, so that nothing gathers behind calls that are under way. */
  readonly #gathering = new Gathering<Read>({
    call: (reads) => this.#send(reads),
    sizeOf: sizeIn,
    full: () => BATCH_LENGTH,
    few: Number.POSITIVE_INFINITY,
  });

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  async read(chunk: Chunk, signal?: AbortSignal): Promise<Given> {
    signal?.throwIfAborted();
    const read = { chunk, listener: arrivalListener(), ...Promise.withResolvers<Given>() };
    this.#gathering.add(read);
    try {
      return await orAborted(read.promise, signal);
    } catch (error) {
      this.#gathering.remove(read);
      throw error;
    }
  }

  async #send(reads: readonly Read[]): Promise<void> {
    // By itself it can be given up, and its size is checked as it comes.
    if (reads.length === 1) {
      reads[0]!.resolve('alone');
      return;
    }
    const request = { digests: reads.map(({ chunk }) => named(chunk)), digestFunction: BLAKE3 };
    const call = () => this.#channel.unary(CAS.batchRead, request);
    try {
      const { responses } = await watchArrivals(tellingAll(reads), call);
      const given = new Map(responses?.map((one) => [one.digest?.hash, givenIn(one)]));
      for (const { chunk, resolve } of reads) resolve(given.get(chunk.digest.hex) ?? 'alone');
    } catch (error) {
      for (const { reject } of reads) reject(error);
    }
  }
}

function sizeIn({ chunk }: Read): number {
  return chunk.size + OVERHEAD;
}

function givenIn({ status, data }: Answer): Given {
  if (status?.code === CODES.NOT_FOUND.grpc) return 'absent';
  // Why it is refused is said where it is asked for alone.
  return status?.code ? 'alone' : { bytes: data ?? new Uint8Array() };
}

interface Answer {
  status?: { code?: number | null } | null;
  data?: Uint8Array | null;
}

/** Tells each of those who wait of its part of what arrives: together they hear of every byte once. */
function tellingAll(reads: readonly Read[]): ArrivalListener {
  const total = reads.reduce((sum, read) => sum + sizeIn(read), 0);
  return (bytes) => {
    for (const read of reads) read.listener?.((bytes * sizeIn(read)) / total);
  };
}
