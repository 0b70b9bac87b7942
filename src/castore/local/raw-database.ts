import type { Database, Key, RootDatabase } from 'lmdb';
import * as lmdb from 'lmdb';
import { asBuffer, toHex } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';

type RawTable = Database<Uint8Array, Key>;

/** Keys that are not to be touched, in hexadecimal: `from` and those behind it, up to `to` if there is one. */
export interface Gap {
  readonly table: string;
  readonly from: string;
  readonly to?: string;
}

export interface RawRow {
  readonly key: Buffer;
  readonly value: Buffer;
}

const MAX_TABLES = 64;

/**
 * The tables of a database that may be damaged, for reading alone. Reading it may end the process; then
 * the next one is told to keep away from where that happened. All reads come from one state of the
 * database until `refresh`, provided that no event is waited for.
 */
export class RawDatabase {
  readonly names: readonly string[];
  readonly #root: RootDatabase<Uint8Array, Key>;
  readonly #tables = new Map<string, RawTable>();
  readonly #gaps: readonly Gap[];

  constructor(path: string, gaps: readonly Gap[]) {
    this.#gaps = gaps;
    this.#root = lmdb.open<Uint8Array, Key>({
      path,
      noSubdir: true,
      readOnly: true,
      mapSize: 2 ** 40,
      maxDbs: MAX_TABLES,
      encoding: 'binary',
      keyEncoding: 'binary',
    });
    this.names = [...this.#root.getKeys({})].map((key) =>
      asBuffer(key as Uint8Array)
        .toString('latin1', 0)
        .replace(/\0$/, ''),
    );
    for (const name of this.names) {
      const table = this.#root.openDB<Uint8Array, Key>({ name, encoding: 'binary', keyEncoding: 'binary' });
      if (table) this.#tables.set(name, table);
    }
  }

  /** Rows as LMDB counts them. */
  count(name: string): number {
    return (this.#tables.get(name)?.getStats() as { entryCount: number } | undefined)?.entryCount ?? 0;
  }

  /** The row of a key; `undefined` in a gap too. */
  get(name: string, key: Uint8Array): Buffer | undefined {
    const hex = toHex(key);
    const isInGap = this.#gaps.some(
      ({ table, from, to }) => table === name && hex >= from && (to === undefined || hex < to),
    );
    const value = isInGap ? undefined : this.#tables.get(name)?.get(asBuffer(key));
    return value && asBuffer(value);
  }

  /**
   * The rows of a table outside the gaps, in the order of their keys. `onKey` hears how far it is, so that a
   * crash can be placed. Throws DATA_LOSS when the keys are not in order.
   */
  *rows(name: string, onKey: (hex: string) => void = () => {}): Generator<RawRow> {
    const gaps = this.#gaps.filter(({ table }) => table === name).sort((a, b) => (a.from < b.from ? -1 : 1));
    let start = '';
    for (const { from, to } of [...gaps, { from: undefined, to: undefined }]) {
      yield* this.#range(name, start, from, onKey);
      if (to === undefined) return;
      start = to;
    }
  }

  *#range(
    name: string,
    start: string,
    end: string | undefined,
    onKey: (hex: string) => void,
  ): Generator<RawRow> {
    const table = this.#tables.get(name);
    if (!table || (end !== undefined && end <= start)) return;
    onKey(start);
    let last: Buffer | undefined;
    const bound = end === undefined ? {} : { end: Buffer.from(end, 'hex') };
    const from = start === '' ? {} : { start: Buffer.from(start, 'hex') };
    for (const { key, value } of table.getRange({ ...from, ...bound })) {
      const bytes = asBuffer(key as Uint8Array);
      if (last && Buffer.compare(last, bytes) >= 0) throw damaged(`the keys of ${name} are not in order`);
      last = bytes;
      yield { key: bytes, value: asBuffer(value) };
      const behind = `${toHex(bytes)}00`;
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
