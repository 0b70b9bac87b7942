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

/** Blobs of a near service, and what it lacks from a far one, of which nothing is kept. Puts go near. */
export class NearFirstBlobService implements BlobService {
  readonly #near: BlobService;
  readonly #far: BlobService;

  constructor(near: BlobService, far: BlobService) {
    this.#near = near;
    this.#far = far;
  }

  async chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    return (await this.#near.chunks(digest, signal)) ?? this.#far.chunks(digest, signal);
  }

  async outboard(digest: Digest, options?: OutboardOptions): Promise<Outboard | undefined> {
    return (await this.#near.outboard?.(digest, options)) ?? this.#far.outboard?.(digest, options);
  }

  async read(digest: Digest, options?: ReadOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    return (await this.#near.read(digest, options)) ?? this.#far.read(digest, options);
  }

  has(digest: Digest, options?: HasOptions): Promise<boolean> {
    return this.#near.has(digest, options);
  }

  put(content: BlobContent, options?: PutOptions): Promise<Chunk> {
    return this.#near.put(content, options);
  }

  flush(): Promise<void> {
    return this.#near.flush();
  }
}
