import { setImmediate as turn } from 'node:timers/promises';
import type { Environment, Table } from './environment.ts';

/** Rows looked at before others have their turn, and LMDB's old pages are let go of. */
const SLICE = 512;

/** The rows of a table in slices, each from the state of its moment. The bytes are valid until the next slice. */
export async function* scan(
  env: Environment,
  table: Table,
): AsyncGenerator<{ readonly key: Uint8Array; readonly value: Uint8Array }[]> {
  let start: Buffer | undefined;
  for (;;) {
    await turn();
    env.refresh();
    const rows = [...table.getRange({ ...(start ? { start } : {}), limit: SLICE })].map(({ key, value }) => ({
      key: key as Uint8Array,
      value,
    }));
    if (rows.length === 0) return;
    yield rows;
    // The least key behind the last one.
    start = Buffer.concat([rows.at(-1)!.key, Buffer.alloc(1)]);
  }
}
