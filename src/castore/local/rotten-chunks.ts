import { latin1 } from '../../util/bytes.ts';
import type { Digest } from '../digest.ts';
import type { Table } from './table.ts';

const MARK = new Uint8Array(1);

/**
 * Chunks whose file was found to hold something else than their digest says: nobody who writes relies on such a file, and
 * fsck tells what it belongs to. A mark goes when the chunk is written anew, or deleted.
 */
export class RottenChunks {
  readonly #table: Table;
  readonly #committed: (write: Promise<boolean>) => Promise<boolean>;
  /** What is marked here counts at once, also when the mark cannot be written. */
  readonly #noted = new Set<string>();

  /** `committed` waits for a write. */
  constructor(table: Table, committed: (write: Promise<boolean>) => Promise<boolean>) {
    this.#table = table;
    this.#committed = committed;
  }

  has(digest: Uint8Array): boolean {
    return this.#noted.has(latin1(digest)) || this.#table.has(digest);
  }

  /** Marks a chunk. Nobody waits for it: whoever reads it next would notice too. */
  note({ bytes }: Digest): void {
    if (this.has(bytes)) return;
    this.#noted.add(latin1(bytes));
    this.#committed(this.#table.put(bytes, MARK)).catch(() => {});
  }

  /** Takes a mark away, within a transaction. */
  forget(digest: Uint8Array): void {
    this.#noted.delete(latin1(digest));
    this.#table.removeSync(digest);
  }
}
