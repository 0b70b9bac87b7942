import { once } from 'node:events';
import { canStartThreads, startThread } from '../util/async/thread.ts';
import type { DirectoryIndex } from './directory.ts';
import { Directory } from './directory.ts';

/**
 * Encodings from this length on, in bytes, are decoded in a thread of their own where somebody waits meanwhile: a
 * million entries take a third of a second.
 */
export const LARGE_DIRECTORY = 1 << 20;

/**
 * Decodes a large directory, in a thread of its own if there can be one. The result lies in memory that threads share.
 * Throws as `Directory.decode` does.
 */
export async function indexLargeDirectory(bytes: Uint8Array, signal: AbortSignal): Promise<DirectoryIndex> {
  if (!canStartThreads()) return sharedIndex(bytes);
  const thread = startThread(import.meta.url, './large-directory-thread.js', shared(bytes));
  try {
    const [index] = await once(thread, 'message', { signal });
    return index as DirectoryIndex;
  } finally {
    void thread.terminate();
  }
}

/** The index of an encoded directory, in memory that threads share. */
export function sharedIndex(encoded: Uint8Array): DirectoryIndex {
  const { bytes, table, order } = Directory.decode(encoded).index;
  return { bytes: shared(bytes), table: shared(table), order: shared(order) };
}

/** An array in memory that threads share: itself, or a copy. */
export function shared<T extends Uint8Array | Uint32Array>(array: T): T {
  if ((array.buffer as ArrayBufferLike) instanceof SharedArrayBuffer) return array;
  const Type = array.constructor as new (buffer: SharedArrayBuffer) => T;
  const copy = new Type(new SharedArrayBuffer(array.byteLength));
  copy.set(array);
  return copy;
}
