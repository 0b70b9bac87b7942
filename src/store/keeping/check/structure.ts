import type { RawDatabase } from '../../../castore/local/raw-database.ts';
import { EPOCH_LENGTH, rowEpoch } from '../../../castore/local/rows.ts';

const CONTENTS = ['directory', 'manifest', 'outboard', 'chunk'];
/** Tables whose rows begin with an epoch. */
export const EPOCHAL = [...CONTENTS, 'use'];

/** The epoch of a store, 0 when it is damaged. */
export function epochOf(database: RawDatabase): number {
  const epoch = Number(database.get('meta', Buffer.from('epoch'))?.toString());
  return Number.isSafeInteger(epoch) && epoch >= 1 ? epoch : 0;
}

/** What is wrong with a table as such, whatever its rows say. All of it is read, from one state. */
export function faultsOf(database: RawDatabase, table: string, onKey: (hex: string) => void): string[] {
  const epoch = Math.max(1, epochOf(database));
  let count = 0;
  let unreachable = 0;
  let ahead = 0;
  for (const { key, value } of database.rows(table, { onKey })) {
    count++;
    if (CONTENTS.includes(table) && value.length >= EPOCH_LENGTH && rowEpoch(value) > epoch) ahead++;
    const found = database.get(table, key);
    if (!found || Buffer.compare(found, value) !== 0) unreachable++;
  }
  const faults: string[] = [];
  if (unreachable > 0) faults.push(`${unreachable} rows of ${table} are not found by their keys`);
  if (ahead > 0) faults.push(`${ahead} rows of ${table} are of an epoch that has yet to come`);
  const counted = database.count(table);
  if (counted !== count) faults.push(`${table} has ${count} rows, but should have ${counted}`);
  return faults;
}
