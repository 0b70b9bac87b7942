import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { heldOutboard, MAX_OUTBOARD_LENGTH, makeOutboard } from '../bao/whole.ts';
import type { Digest } from '../digest.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { keyOf } from '../objects/object-store.ts';
import type { BlobService, Outboard } from './service.ts';

/** Outboards among objects: `bao/b3/<4 digits>/<64 digits>`, not compressed, to be read by ranges. */
export class ObjectOutboards {
  readonly #objects: ObjectStore;

  constructor(objects: ObjectStore) {
    this.#objects = objects;
  }

  async kept(digest: Digest, signal?: AbortSignal): Promise<Outboard | undefined> {
    const key = keyOf('bao', digest);
    const { part } = this.#objects;
    if (!part) {
      const object = await this.#objects.get(key, MAX_OUTBOARD_LENGTH, signal);
      return object && heldOutboard(object.bytes);
    }
    const facts = await this.#objects.facts(key, signal);
    if (!facts) return undefined;
    return {
      length: facts.size,
      read: async (start, length, until) => {
        const found = await part.call(this.#objects, key, { start, length }, until);
        return found?.bytes ?? new Uint8Array(0);
      },
    };
  }

  /** Makes one out of the contents, and puts it beside them, where that is allowed. */
  async make(blobs: BlobService, digest: Digest, signal?: AbortSignal): Promise<Outboard | undefined> {
    const bytes = await makeOutboard(blobs, digest, signal);
    if (!bytes) return undefined;
    // None is needed where one group is all.
    if (bytes.length > 0) await this.#put(digest, bytes, signal);
    return heldOutboard(bytes);
  }

  async #put(digest: Digest, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#objects.put(keyOf('bao', digest), bytes, 'always', signal);
    } catch (error) {
      signal?.throwIfAborted();
      log.debug('cannot keep an outboard', { blob: digest.hex, error: messageOf(error) });
    }
  }
}
