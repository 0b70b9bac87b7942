import { damaged } from '../../util/errors.ts';
import type { Condition, ObjectStore, StoredObject } from './object-store.ts';

/** Objects in the memory of this process. */
export class MemoryObjectStore implements ObjectStore {
  readonly address = 'objectstore+memory:///';
  readonly isFar = false;
  readonly #objects = new Map<string, StoredObject>();
  #puts = 0;

  async get(key: string, limit: number, signal?: AbortSignal): Promise<StoredObject | undefined> {
    signal?.throwIfAborted();
    const object = this.#objects.get(key);
    if (object && object.bytes.length > limit) throw damaged(`${key} has more than ${limit} bytes`);
    return object;
  }

  async has(key: string): Promise<boolean> {
    return this.#objects.has(key);
  }

  async put(key: string, bytes: Uint8Array, condition: Condition, signal?: AbortSignal): Promise<boolean> {
    signal?.throwIfAborted();
    const tag = this.#objects.get(key)?.tag;
    if (condition === 'absent' ? tag !== undefined : tag !== condition.tag) return false;
    this.#objects.set(key, { bytes: Uint8Array.from(bytes), tag: String(++this.#puts) });
    return true;
  }

  async *list(prefix: string): AsyncGenerator<string> {
    for (const key of this.#objects.keys()) if (key.startsWith(prefix)) yield key;
  }

  async close(): Promise<void> {}
}
