import { setImmediate as turn } from 'node:timers/promises';
import type { Environment } from './environment.ts';
import type { Table, TableRow } from './table.ts';

/** Rows looked at before others have their turn, and LMDB's old pages are let go of. */
const SLICE = 512;

/** The rows of a table in slices, each from the state of its moment. */
export async function* scan(env: Environment, table: Table): AsyncGenerator<TableRow[]> {
  let start: Buffer | undefined;
  for (;;) {
    await turn();
    env.refresh();
    const rows = [...table.rows({ start, limit: SLICE })];
    if (rows.length === 0) return;
    yield rows;
    // The least key behind the last one.
    start = Buffer.concat([rows.at(-1)!.key, Buffer.alloc(1)]);
  }
}
