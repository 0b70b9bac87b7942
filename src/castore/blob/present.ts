import type { Channel } from '../../proto/grpc/channel.ts';
import { foundOrNot } from '../../proto/grpc/found.ts';
import { BLAKE3, CAS, MAX_ASKED } from '../../proto/grpc/methods.ts';
import { orAborted } from '../../util/async/abort.ts';
import { Gathering } from '../../util/async/gathering.ts';
import { StoreError } from '../../util/errors.ts';
import type { Chunk } from './service.ts';

/** A question that is to go with others. */
interface Question extends PromiseWithResolvers<boolean> {
  readonly chunk: Chunk;
}

/**
 * What a peer has of blobs and their chunks. Questions that are asked at the same time go in one call, thousands of them. Other
 * implementations cannot be asked so.
 */
export class Present {
  readonly #channel: Channel;
  readonly #questions = new Gathering<Question>({
    call: (questions) => this.#ask(questions),
    sizeOf: () => 1,
    full: () => MAX_ASKED,
  });
  #isOffered = true;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /** Whether the peer can be asked, as far as is known. */
  get isOffered(): boolean {
    return this.#isOffered;
  }

  /** Whether the peer has it, and keeps it for whoever relies on that. `undefined` when it cannot be asked. */
  async has(chunk: Chunk, signal?: AbortSignal): Promise<boolean | undefined> {
    signal?.throwIfAborted();
    if (!this.#isOffered) return undefined;
    const question = { chunk, ...Promise.withResolvers<boolean>() };
    this.#questions.add(question);
    try {
      return await orAborted(question.promise, signal);
    } catch (error) {
      if (!isUnimplemented(error)) throw error;
      this.#isOffered = false;
      return undefined;
    }
  }

  async #ask(questions: readonly Question[]): Promise<void> {
    try {
      const { missingBlobDigests } = await this.#channel.unary(CAS.findMissing, {
        blobDigests: questions.map(({ chunk }) => named(chunk)),
        digestFunction: BLAKE3,
      });
      const missing = new Set(missingBlobDigests?.map(({ hash }) => hash));
      for (const { chunk, resolve } of questions) resolve(!missing.has(chunk.digest.hex));
    } catch (error) {
      for (const { reject } of questions) reject(error);
    }
  }

  /** Has the peer make a blob of chunks that it has. Throws UNAVAILABLE when it has lost one since it said so. */
  async splice(blob: Chunk, chunks: readonly Chunk[], signal?: AbortSignal): Promise<void> {
    const request = { blobDigest: named(blob), chunkDigests: chunks.map(named), digestFunction: BLAKE3 };
    if ((await foundOrNot(this.#channel.unary(CAS.splice, request, signal))) !== undefined) return;
    const lost = `${this.#channel.address} has lost a part of blob ${blob.digest} since it got it: send it again`;
    throw new StoreError('UNAVAILABLE', lost);
  }
}

/** A chunk as the Remote Execution API names it. */
export function named({ digest, size }: Chunk): { hash: string; sizeBytes: number } {
  return { hash: digest.hex, sizeBytes: size };
}

function isUnimplemented(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'UNIMPLEMENTED';
}
