import { asBuffer, toHex } from '../../util/bytes.ts';
import type { ChunkFiles } from './chunk-files.ts';
import type { Environment } from './environment.ts';
import type { RowCheck } from './row-check.ts';
import { EPOCH_LENGTH, fileOf, rowEpoch, withEpoch } from './rows.ts';
import type { Table } from './table.ts';

/** Bytes of rows in one transaction: a writer that is stopped inside one holds up all others. */
export const TRANSACTION_BYTES = 4 << 20;

/** What a writer puts. */
export interface Row {
  readonly table: Table;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** Makes the row of this one and one that is there when it is committed. Must not throw. */
  readonly unite?: ((theirs: Uint8Array) => Uint8Array) | undefined;
  /** The file that the row names, if it names one. */
  readonly file?: { readonly hex: string; readonly suffix: string };
}

/** Commits rows, of which other writers may have put the same. */
export class RowCommits {
  readonly #env: Environment;
  readonly #files: ChunkFiles;
  readonly #check: RowCheck;

  constructor(env: Environment, files: ChunkFiles, check: RowCheck) {
    this.#env = env;
    this.#files = files;
    this.#check = check;
  }

  /** Commits rows in order, in transactions of bounded size. */
  async commit(rows: readonly Row[], onCommitted: (row: Row) => void): Promise<void> {
    for (let next = 0; next < rows.length; ) {
      const first = next;
      const puts: Promise<unknown>[] = [];
      for (let bytes = 0; next < rows.length && bytes < TRANSACTION_BYTES; next++) {
        bytes += rows[next]!.value.length;
        puts.push(this.#put(rows[next]!));
      }
      await Promise.all(puts);
      for (const row of rows.slice(first, next)) onCommitted(row);
    }
  }

  /** Puts a row unless a sound one is there, whose epoch rises: it never falls. */
  async #put(row: Row): Promise<void> {
    const { table, key, value, unite, file } = row;
    if (unite) {
      // Mostly there is none, and then the database's thread need not wait for this one.
      if (await this.#env.committed(table.putNew(key, value))) return;
      await this.#env.transactionSoon(() => {
        const theirs = table.get(key);
        table.putSync(key, theirs ? unite(theirs) : value);
      });
      return;
    }
    if (!isEpochal(this.#env, table)) {
      await this.#env.committed(table.put(key, value));
      return;
    }
    for (;;) {
      const isFirst = await this.#env.committed(table.putNew(key, value));
      // It may be our own, of a commit that failed later on.
      if (isFirst || asBuffer(value).equals(table.get(key) ?? new Uint8Array())) return;
      const loser = await this.#settle(table, key, value);
      // A collector took it between the two.
      if (!loser) continue;
      if (file) this.#removeFile(key, loser);
      return;
    }
  }

  /**
   * Has one of two rows of a key stay, the one that is there if it is sound: another writer was faster with it. Gives the
   * one that does not, or `undefined` when there is only ours.
   */
  #settle(table: Table, key: Uint8Array, ours: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#env.transactionSoon(() => {
      const theirs = table.get(key);
      if (!theirs) return undefined;
      // Another list may be as good, or wrong: the one that is put is right.
      const isSound =
        this.#check.isSound(table, key, theirs) && (!this.#isList(table) || isSameList(theirs, ours));
      const theirEpoch = theirs.length < EPOCH_LENGTH ? 0 : Math.min(rowEpoch(theirs), this.#env.epochNow());
      const stays = isSound ? theirs : ours;
      table.putSync(key, withEpoch(stays, Math.max(rowEpoch(ours), theirEpoch)));
      if (!isSound && (table === this.#env.manifests || table === this.#env.chunks))
        this.#env.rotten.forget(key);
      return isSound ? ours : theirs;
    });
  }

  #isList(table: Table): boolean {
    return table === this.#env.manifests || table === this.#env.outboards;
  }

  /** Removes the file that a chunk's row names, if it does: of a damaged row it is left for the collector. */
  #removeFile(key: Uint8Array, row: Uint8Array): void {
    const file = fileOf(key, row);
    if (file) this.#files.remove(toHex(key), file.suffix);
  }
}

/** Whether two rows have the same chunk list. */
export function isSameList(one: Uint8Array, other: Uint8Array): boolean {
  return asBuffer(one).subarray(EPOCH_LENGTH).equals(other.subarray(EPOCH_LENGTH));
}

/** Whether the rows of a table begin with an epoch. */
function isEpochal({ chunks, manifests, outboards, directories }: Environment, table: Table): boolean {
  return [chunks, manifests, outboards, directories].includes(table);
}
