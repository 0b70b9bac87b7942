import { SharedAhead } from '../../util/async/shared-ahead.ts';
import { collect } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { Digest } from '../digest.ts';
import { DigestHasher } from '../digest.ts';
import { chunksFrom, skipped } from './offset.ts';
import { ReplicatedBlobService } from './replicated.ts';
import type { Chunk, ReadOptions } from './service.ts';
import { anotherSize, MAX_CHUNK_LENGTH } from './service.ts';

/** What is taken in one piece, and checked before anybody sees it, in bytes. */
const MAX_WHOLE = 2 << 20;
/** Chunks of one blob on their way at once, and of all, beyond one of each. */
const AT_ONCE = 8;
const AHEAD = 64;

/**
 * Blobs that are read from the fastest of several mirrors, and from a store where none has them. What can be checked before it
 * is handed on comes from anybody: short blobs, and chunks. What a large blob is made of is for the store to say, and so is
 * all of one that nobody has cut; mirrors are asked for that only when the store is away. The replicas are those of a
 * `MirrorGroup`.
 */
export class MirroredBlobService extends ReplicatedBlobService {
  protected override readonly whom = 'essential';
  readonly #ahead = new SharedAhead(AHEAD);

  override async read(
    digest: Digest,
    options: ReadOptions = {},
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    const { size, offset = 0, signal } = options;
    if (size !== undefined && size <= MAX_WHOLE) {
      const bytes = await this.#whole({ digest, size }, signal);
      return bytes && once(bytes.subarray(offset));
    }
    const chunks = await this.chunks(digest, signal);
    if (!chunks) return undefined;
    const isCut = chunks.length > 0 && chunks.every((chunk) => chunk.size <= MAX_CHUNK_LENGTH);
    if (!isCut) return super.read(digest, options);
    if (size !== undefined && chunks.reduce((sum, chunk) => sum + chunk.size, 0) !== size)
      throw anotherSize({ digest, size });
    return this.#byChunks(digest, chunks, offset, signal);
  }

  /** A short blob or a chunk, from whoever is the first to have it right. */
  #whole({ digest, size }: Chunk, signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
    return this.replicas.ask(
      async (service, until) => {
        const parts = await service.read(digest, { size, signal: until });
        const bytes = parts && (await collect(parts, size));
        if (parts && bytes?.length !== size) throw anotherSize({ digest, size });
        return bytes;
      },
      { signal, isSomewhere: true },
    );
  }

  async *#byChunks(
    digest: Digest,
    chunks: readonly Chunk[],
    offset: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    const leave = new AbortController();
    const until = signal ? AbortSignal.any([signal, leave.signal]) : leave.signal;
    const { wanted, skip } = chunksFrom(chunks, offset);
    const hasher = offset === 0 ? new DigestHasher() : undefined;
    const get = async (chunk: Chunk) => {
      const bytes =
        chunk.size <= MAX_WHOLE ? await this.#whole(chunk, until) : await this.#collected(chunk, until);
      if (!bytes) throw damaged(`chunk ${chunk.digest} of blob ${digest} is missing`);
      return bytes;
    };
    const ahead = this.#ahead.map(wanted, AT_ONCE, get);
    const parts = async function* () {
      try {
        for await (const bytes of ahead) {
          hasher?.update(bytes);
          yield bytes;
        }
      } finally {
        leave.abort();
      }
    };
    yield* skipped(parts(), skip);
    if (hasher && !hasher.digest().equals(digest))
      throw damaged(`the chunks of blob ${digest} make another blob`);
  }

  async #collected({ digest, size }: Chunk, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const parts = await super.read(digest, { size, signal });
    return parts && collect(parts, size);
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
