import { heldOutboard, makeOutboard } from '../bao/whole.ts';
import { Digest, DigestHasher } from '../digest.ts';
import { chunked } from './chunker.ts';
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

/** Blobs in the memory of this process. */
export class MemoryBlobService implements BlobService {
  readonly #chunks = new Map<string, Uint8Array>();
  readonly #manifests = new Map<string, readonly Chunk[]>();
  readonly #outboards = new Map<string, Uint8Array>();

  async chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    signal?.throwIfAborted();
    return this.#manifests.get(digest.hex) ?? (this.#chunks.has(digest.hex) ? [] : undefined);
  }

  async has(digest: Digest, { signal }: HasOptions = {}): Promise<boolean> {
    return (await this.chunks(digest, signal)) !== undefined;
  }

  async read(digest: Digest, options: ReadOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    options.signal?.throwIfAborted();
    const chunk = this.#chunks.get(digest.hex);
    const list =
      this.#manifests.get(digest.hex)?.map((part) => this.#chunks.get(part.digest.hex)!) ??
      (chunk && [chunk]);
    return list && skip(list, options.offset ?? 0);
  }

  async outboard(digest: Digest, { make, signal }: OutboardOptions = {}): Promise<Outboard | undefined> {
    const kept = this.#outboards.get(digest.hex);
    const bytes = kept ?? (make ? await makeOutboard(this, digest, signal) : undefined);
    if (!bytes) return undefined;
    this.#outboards.set(digest.hex, bytes);
    return heldOutboard(bytes);
  }

  async put(content: BlobContent, { signal }: PutOptions = {}): Promise<Chunk> {
    signal?.throwIfAborted();
    const hasher = new DigestHasher();
    const list: Chunk[] = [];
    let size = 0;
    for await (const part of chunked(content instanceof Uint8Array ? [content] : content)) {
      const chunk = { digest: Digest.hash(part), size: part.length };
      if (!this.#chunks.has(chunk.digest.hex)) this.#chunks.set(chunk.digest.hex, Uint8Array.from(part));
      hasher.update(part);
      list.push(chunk);
      size += part.length;
    }
    const digest = hasher.digest();
    if (list.length > 1) this.#manifests.set(digest.hex, list);
    return { digest, size };
  }

  async flush(): Promise<void> {}

  async assemble(digest: Digest, chunks: readonly Chunk[]): Promise<void> {
    if (chunks.every((chunk) => this.#chunks.has(chunk.digest.hex))) this.#manifests.set(digest.hex, chunks);
  }
}

async function* skip(parts: Uint8Array[], offset: number): AsyncGenerator<Uint8Array> {
  let position = 0;
  for (const part of parts) {
    const from = Math.max(0, offset - position);
    position += part.length;
    if (from < part.length) yield part.subarray(from);
  }
}
