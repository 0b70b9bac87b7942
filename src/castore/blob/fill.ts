import type { Tolerant } from '../../util/async/tolerant.ts';
import type { Digest } from '../digest.ts';
import type { BlobService, Chunk } from './service.ts';

/** Most bytes held in memory until they are in the near service; more of them have to wait. */
const MAX_HELD = 32 << 20;

/** Puts what was fetched into a near service while its readers go on, many at a time. */
export class BlobFill {
  readonly #near: BlobService;
  readonly #writing: Tolerant;
  readonly #held = new Map<string, { readonly digest: Digest; readonly bytes: Uint8Array }>();
  #heldBytes = 0;
  #draining: Promise<void> | undefined;
  #room: PromiseWithResolvers<void> | undefined;

  constructor(near: BlobService, writing: Tolerant) {
    this.#near = near;
    this.#writing = writing;
  }

  /** The bytes of a chunk that is on its way into the near service. */
  get(digest: Digest): Uint8Array | undefined {
    return this.#held.get(digest.hex)?.bytes;
  }

  /** Takes bytes over that have been checked. False when the near service takes nothing just now. */
  async add(digest: Digest, bytes: Uint8Array): Promise<boolean> {
    if (this.#writing.paused) return false;
    while (this.#heldBytes > MAX_HELD) {
      this.#room ??= Promise.withResolvers<void>();
      await this.#room.promise;
    }
    if (this.#held.has(digest.hex)) return true;
    this.#held.set(digest.hex, { digest, bytes });
    this.#heldBytes += bytes.length;
    this.#draining ??= this.#drain();
    return true;
  }

  /** Names chunks that were added, or are there, as a blob whose digest has been checked; in its own time. */
  assemble(digest: Digest, chunks: readonly Chunk[]): void {
    const near = this.#near;
    if (!near.assemble) return;
    this.#writing.later(async () => {
      await this.settle();
      const parts: Chunk[] = [];
      for (const chunk of chunks) {
        // The near service may have cut it further.
        const finer = await near.chunks(chunk.digest);
        if (!finer) return;
        if (finer.length > 0) parts.push(...finer);
        else parts.push(chunk);
      }
      if (parts.length > 1) await near.assemble?.(digest, parts);
    });
  }

  async #drain(): Promise<void> {
    while (this.#held.size > 0) {
      const batch = [...this.#held];
      await this.#writing.try(async () => {
        for (const [, { digest, bytes }] of batch) await this.#near.put(bytes, { digest });
        await this.#near.flush();
      });
      for (const [hex, { bytes }] of batch) {
        this.#held.delete(hex);
        this.#heldBytes -= bytes.length;
      }
      this.#room?.resolve();
      this.#room = undefined;
    }
    this.#draining = undefined;
  }

  /** Resolves when what was added is in the near service, or was not taken. */
  async settle(): Promise<void> {
    await this.#draining;
  }
}
