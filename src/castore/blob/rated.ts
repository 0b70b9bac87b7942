import type { Rate } from '../../util/async/rate.ts';
import type { Digest } from '../digest.ts';
import type {
  BlobContent,
  BlobService,
  Chunk,
  HasOptions,
  Outboard,
  OutboardOptions,
  PutOptions,
  ReadOptions,
} from './service.ts';
import { SINGLE_CHUNK_LIMIT } from './service.ts';

/** Blobs of another service, of which no more is read in a second than a rate allows. */
export class RatedBlobService implements BlobService {
  readonly #inner: BlobService;
  readonly #rate: Rate;

  constructor(inner: BlobService, rate: Rate) {
    this.#inner = inner;
    this.#rate = rate;
  }

  chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    return this.#inner.chunks(digest, signal);
  }

  async outboard(digest: Digest, options?: OutboardOptions): Promise<Outboard | undefined> {
    return this.#inner.outboard?.(digest, options);
  }

  has(digest: Digest, options?: HasOptions): Promise<boolean> {
    return this.#inner.has(digest, options);
  }

  /** A short blob waits before it is asked for, since it comes at once; of a long one each part waits before the next. */
  async read(digest: Digest, options: ReadOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    const { size = Number.POSITIVE_INFINITY, signal } = options;
    const isShort = size <= SINGLE_CHUNK_LIMIT;
    if (isShort) await this.#rate.take(size, signal);
    const contents = await this.#inner.read(digest, options);
    return isShort || !contents ? contents : this.#paced(contents, signal);
  }

  async *#paced(
    contents: AsyncIterable<Uint8Array>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    for await (const part of contents) {
      await this.#rate.take(part.length, signal);
      yield part;
    }
  }

  put(content: BlobContent, options?: PutOptions): Promise<Chunk> {
    return this.#inner.put(content, options);
  }

  flush(): Promise<void> {
    return this.#inner.flush();
  }
}
