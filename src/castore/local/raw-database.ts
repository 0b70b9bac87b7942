import type { RootDatabase } from 'lmdb';
import { toHex } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import { openDatabase } from './database.ts';
import type { TableRow } from './table.ts';
import { Table, tableNames } from './table.ts';

/** Keys that are not to be touched, in hexadecimal: `from` and those behind it, up to `to` if there is one. */
export interface Gap {
  readonly table: string;
  readonly from: string;
  readonly to?: string;
}

interface RowsOptions {
  readonly first?: string;
  readonly onKey?: (hex: string) => void;
}

/** The least key behind another one. */
export function keyBehind(key: Uint8Array): string {
  return `${toHex(key)}00`;
}

/**
 * The tables of a database that may be damaged, for reading alone. Reading it may end the process; then
 * the next one is told to keep away from where that happened. All reads come from one state of the
 * database until `refresh`, provided that no event is waited for.
 */
export class RawDatabase {
  readonly names: readonly string[];
  readonly #root: RootDatabase;
  readonly #tables = new Map<string, Table>();
  readonly #gaps: readonly Gap[];

  constructor(path: string, gaps: readonly Gap[]) {
    this.#gaps = gaps;
    this.#root = openDatabase(path, { readOnly: true });
    this.names = tableNames(this.#root);
    for (const name of this.names) this.#tables.set(name, new Table(this.#root, name));
  }

  /** Rows as LMDB counts them. */
  count(name: string): number {
    return this.#tables.get(name)?.count ?? 0;
  }

  /** The row of a key; `undefined` in a gap too. */
  get(name: string, key: Uint8Array): Buffer | undefined {
    const hex = toHex(key);
    const isInGap = this.#gaps.some(
      ({ table, from, to }) => table === name && hex >= from && (to === undefined || hex < to),
    );
    return isInGap ? undefined : this.#tables.get(name)?.get(key);
  }

  /**
   * The rows of a table outside the gaps, in the order of their keys, from `first` (in hexadecimal) on. `onKey` hears
   * how far it is, so that a crash can be placed. Throws DATA_LOSS when the keys are not in order.
   */
  *rows(name: string, { first = '', onKey = () => {} }: RowsOptions = {}): Generator<TableRow> {
    const gaps = this.#gaps.filter(({ table }) => table === name).sort((a, b) => (a.from < b.from ? -1 : 1));
    let start = first;
    for (const { from, to } of [...gaps, { from: undefined, to: undefined }]) {
      yield* this.#range(name, start, from, onKey);
      if (to === undefined) return;
      if (to > start) start = to;
    }
  }

  *#range(
    name: string,
    start: string,
    end: string | undefined,
    onKey: (hex: string) => void,
  ): Generator<TableRow> {
    const table = this.#tables.get(name);
    if (!table || (end !== undefined && end <= start)) return;
    onKey(start);
    let last: Buffer | undefined;
    const range = { start: Buffer.from(start, 'hex'), ...(end && { end: Buffer.from(end, 'hex') }) };
    for (const row of table.rows(range)) {
      if (last && Buffer.compare(last, row.key) >= 0) throw damaged(`the keys of ${name} are not in order`);
      last = row.key;
      yield row;
      const behind = keyBehind(row.key);
      onKey(behind);
      // Not even a look at what comes next: that is where the gap is.
      if (behind === end) return;
    }
  }

  /** Goes on with the latest state. */
  refresh(): void {
    this.#root.resetReadTxn();
  }
}
