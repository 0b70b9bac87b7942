import { LRUCache } from 'lru-cache';
import type { Chunk } from '../../castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../../castore/blob/service.ts';
import { Directory } from '../../castore/directory.ts';
import type { DirectoryEntry } from '../../fs/need.ts';
import { latin1 } from '../../util/bytes.ts';
import type { AheadQueue } from './ahead-queue.ts';

/** Most bytes and files read ahead, and how many files at first. */
const MAX_BYTES = 2 << 20;
const MAX_FILES = 128;
const FIRST_FILES = 8;
/** Most entries between two reads that count as in order: those between are no files, or were there. */
const MAX_GAP = 8;
/** Directories that are followed. */
const MAX_READERS = 64;

interface Reader {
  readonly directory: Directory;
  /** The first entry that has not been read or read ahead. */
  next: number;
  files: number;
}

/**
 * Fetches small files along the reading of a directory: whoever reads two, one behind the other, will want the
 * next, and each by itself would cost a round trip. What is read ahead doubles while the order is kept.
 */
export class Neighbours {
  readonly #queue: AheadQueue;
  readonly #find: (digest: Uint8Array) => Uint8Array | undefined;
  readonly #readers = new LRUCache<string, Reader>({ max: MAX_READERS });

  /** `find` gives the encoding of a directory that is here. */
  constructor(queue: AheadQueue, find: (digest: Uint8Array) => Uint8Array | undefined) {
    this.#queue = queue;
    this.#find = find;
  }

  /** Notes that a file was wanted and not there; `get` fetches one of its neighbours unless that is there. */
  note({ directory, entry }: DirectoryEntry, get: (file: Chunk) => Promise<void>): void {
    const key = latin1(directory);
    const reader = this.#readers.get(key);
    if (!reader) {
      const bytes = this.#find(directory);
      if (bytes) this.#readers.set(key, { directory: Directory.decode(bytes), next: entry + 1, files: 0 });
      return;
    }
    if (entry < reader.next || entry > reader.next + MAX_GAP) {
      reader.files = 0;
      reader.next = entry + 1;
      return;
    }
    reader.files = Math.min(MAX_FILES, reader.files * 2 || FIRST_FILES);
    reader.next = entry + 1;
    for (let files = 0, bytes = 0; files < reader.files && reader.next < reader.directory.length; ) {
      const node = reader.directory.node(reader.next++);
      if (node.kind !== 'file' || node.size === 0n || node.size > SINGLE_CHUNK_LIMIT) continue;
      files++;
      bytes += Number(node.size);
      if (bytes > MAX_BYTES) break;
      this.#queue.add(() => get({ digest: node.digest, size: Number(node.size) }));
    }
  }
}
