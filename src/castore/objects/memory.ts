import { damaged } from '../../util/errors.ts';
import type { Condition, ListedObject, ObjectFacts, ObjectStore, StoredObject } from './object-store.ts';

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

  async part(key: string, { start, length }: { start: number; length: number }) {
    const object = this.#objects.get(key);
    return object && { bytes: object.bytes.subarray(start, start + length) };
  }

  async facts(key: string): Promise<ObjectFacts | undefined> {
    const object = this.#objects.get(key);
    return object && { size: object.bytes.length, modified: object.modified };
  }

  async put(key: string, bytes: Uint8Array, condition: Condition, signal?: AbortSignal): Promise<boolean> {
    signal?.throwIfAborted();
    const tag = this.#objects.get(key)?.tag;
    if (condition === 'absent' && tag !== undefined) return false;
    if (typeof condition === 'object' && tag !== condition.tag) return false;
    this.#objects.set(key, {
      bytes: Uint8Array.from(bytes),
      tag: String(++this.#puts),
      modified: Date.now(),
    });
    return true;
  }

  async *list(prefix: string): AsyncGenerator<ListedObject> {
    for (const [key, { bytes, modified }] of [...this.#objects])
      if (key.startsWith(prefix)) yield { key, size: bytes.length, modified };
  }

  async remove(keys: readonly string[]): Promise<void> {
    for (const key of keys) this.#objects.delete(key);
  }

  async close(): Promise<void> {}
}
