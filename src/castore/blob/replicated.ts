import type { Replicas } from '../../util/async/replicas.ts';
import { resumedContents } from '../../util/async/replicas.ts';
import type { Digest } from '../digest.ts';
import type { BlobContent, BlobService, Chunk, HasOptions, PutOptions, ReadOptions } from './service.ts';

/** Blobs that several services have. Each is read from whichever answers first. */
export class ReplicatedBlobService implements BlobService {
  readonly #replicas: Replicas<BlobService>;

  constructor(replicas: Replicas<BlobService>) {
    this.#replicas = replicas;
  }

  chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    return this.#replicas.ask((service, until) => service.chunks(digest, until), signal);
  }

  has(digest: Digest, options?: HasOptions): Promise<boolean> {
    return this.#replicas.writer.has(digest, options);
  }

  async read(
    digest: Digest,
    { size, offset = 0, signal }: ReadOptions = {},
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    const begin = (at: number) =>
      this.#replicas.ask(
        (service, until) =>
          service.read(digest, { ...(size !== undefined && { size }), offset: at, signal: until }),
        signal,
      );
    const first = await begin(offset);
    return first && resumedContents(this.#replicas, offset, first, begin, signal);
  }

  put(content: BlobContent, options?: PutOptions): Promise<Chunk> {
    return this.#replicas.writer.put(content, options);
  }

  flush(): Promise<void> {
    return this.#replicas.writer.flush();
  }
}
