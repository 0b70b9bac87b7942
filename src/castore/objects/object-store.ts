import type { Digest } from '../digest.ts';

/** The contents of an object, and a tag that changes with them. */
export interface StoredObject {
  readonly bytes: Uint8Array;
  readonly tag: string;
}

/** When a put takes effect: where there is nothing, or over what has this tag. */
export type Condition = 'absent' | { readonly tag: string };

/** Byte strings by keys, as a bucket holds them. */
export interface ObjectStore {
  /** For people. */
  readonly address: string;
  /** Whether it is on another machine. */
  readonly isFar: boolean;

  /** `undefined` when there is none. Throws DATA_LOSS for one of more than `limit` bytes. */
  get(key: string, limit: number, signal?: AbortSignal): Promise<StoredObject | undefined>;

  has(key: string, signal?: AbortSignal): Promise<boolean>;

  /**
   * Stores an object whole and durably, or gives false and does nothing where the condition does not hold, even
   * if others do the same at the same time. When this is tried again by itself after an answer was lost, it may
   * be its own earlier success that it gives false for.
   */
  put(key: string, bytes: Uint8Array, condition: Condition, signal?: AbortSignal): Promise<boolean>;

  /** The keys that begin so, in any order. */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<string>;

  close(): Promise<void>;
}

/** Kinds of objects that tvix and snix keep by digest; the doc comment of each user tells how. */
export type Kind = 'chunks' | 'blobs' | 'dirs';

export function keyOf(kind: Kind, { hex }: Digest): string {
  return `${kind}/b3/${hex.slice(0, 4)}/${hex}`;
}

/** Objects up to this many bytes are sent without asking whether they are there. */
const SMALL = 128 * 1024;

/** Stores the only object that a key can stand for, made of `size` bytes, if it is not there. */
export async function putOnce(
  objects: ObjectStore,
  key: string,
  size: number,
  make: () => Uint8Array,
  signal?: AbortSignal,
): Promise<void> {
  if (size > SMALL && (await objects.has(key, signal))) return;
  await objects.put(key, make(), 'absent', signal);
}
