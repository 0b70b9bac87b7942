import type { Digest } from '../digest.ts';

/** The contents of an object, and a tag that changes with them. */
export interface StoredObject {
  readonly bytes: Uint8Array;
  readonly tag: string;
  /** When it was put last, in milliseconds since 1970, by the clock of the store. */
  readonly modified: number;
}

/** The facts about an object. */
export interface ObjectFacts {
  /** Bytes of the object. */
  readonly size: number;
  /** When it was put last, in milliseconds since 1970, by the clock of the store. */
  readonly modified: number;
  /** MD5 of its bytes, in hexadecimal, where the store tells something that may be that. */
  readonly md5?: string | undefined;
}

export interface ListedObject extends ObjectFacts {
  readonly key: string;
}

/** When a put takes effect: where there is nothing, over what has this tag, or whatever is there. */
export type Condition = 'absent' | 'always' | { readonly tag: string };

/** Byte strings by keys, as a bucket holds them. */
export interface ObjectStore {
  /** For people. */
  readonly address: string;
  /** Whether it is on another machine. */
  readonly isFar: boolean;

  /** `undefined` when there is none. Throws DATA_LOSS for one of more than `limit` bytes. */
  get(key: string, limit: number, signal?: AbortSignal): Promise<StoredObject | undefined>;

  /** A part of an object, shorter only at its end; `undefined` when there is none. */
  part?(
    key: string,
    range: { readonly start: number; readonly length: number },
    signal?: AbortSignal,
  ): Promise<{ readonly bytes: Uint8Array } | undefined>;

  /** `undefined` when there is none. */
  facts(key: string, signal?: AbortSignal): Promise<ObjectFacts | undefined>;

  /**
   * Stores an object whole and durably, or gives false and does nothing where the condition does not hold, even
   * if others do the same at the same time. When this is tried again by itself after an answer was lost, it may
   * be its own earlier success that it gives false for.
   */
  put(key: string, bytes: Uint8Array, condition: Condition, signal?: AbortSignal): Promise<boolean>;

  /** The objects whose keys begin so, in any order. */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<ListedObject>;

  /** Removes objects. Those that are not there are no failure. */
  remove(keys: readonly string[], signal?: AbortSignal): Promise<void>;

  close(): Promise<void>;
}

/** Kinds of objects that tvix and snix keep by digest; the doc comment of each user tells how. */
export type Kind = 'chunks' | 'blobs' | 'dirs';
/** What only we keep: outboards. */
export type OurKind = Kind | 'bao';

export function keyOf(kind: OurKind, { hex }: Digest): string {
  return `${kind}/b3/${hex.slice(0, 4)}/${hex}`;
}
