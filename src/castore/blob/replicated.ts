import type { Replicas } from '../../util/async/replicas.ts';
import { resumedContents } from '../../util/async/replicas.ts';
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

/** Blobs that several services have. Each is read from whichever answers first. */
export class ReplicatedBlobService implements BlobService {
  protected readonly replicas: Replicas<BlobService>;
  /** Who is to say what a blob is made of, and gives what cannot be checked before it is handed on. */
  protected readonly whom: 'fast' | 'essential' = 'fast';

  constructor(replicas: Replicas<BlobService>) {
    this.replicas = replicas;
  }

  chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    const options = { signal, isSomewhere: true, whom: this.whom };
    return this.replicas.ask((service, until) => service.chunks(digest, until), options);
  }

  /** Of whoever has it first: that one lacks it may mean that nobody has made it there. */
  async outboard(
    digest: Digest,
    { make = false, signal }: OutboardOptions = {},
  ): Promise<Outboard | undefined> {
    return this.replicas.ask(async (service, until) => service.outboard?.(digest, { make, signal: until }), {
      signal,
    });
  }

  has(digest: Digest, options?: HasOptions): Promise<boolean> {
    return this.replicas.writer.has(digest, options);
  }

  async read(
    digest: Digest,
    { size, offset = 0, signal }: ReadOptions = {},
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    const begin = (at: number, until: AbortSignal) =>
      this.replicas.ask(
        async (service, asking, member) => {
          const options = { ...(size !== undefined && { size }), offset: at, signal: asking };
          const parts = await service.read(digest, options);
          return parts && { parts, member };
        },
        { signal: until, isSomewhere: true, whom: this.whom },
      );
    return resumedContents(this.replicas, offset, begin, signal);
  }

  put(content: BlobContent, options?: PutOptions): Promise<Chunk> {
    return this.replicas.writer.put(content, options);
  }

  flush(): Promise<void> {
    return this.replicas.writer.flush();
  }
}
