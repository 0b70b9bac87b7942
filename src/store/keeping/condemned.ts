import { closeSync } from 'node:fs';
import { lockForDeleting } from '../../castore/local/collector.ts';
import type { Environment } from '../../castore/local/environment.ts';
import type { Table } from '../../castore/local/table.ts';
import { StoreError } from '../../util/errors.ts';

/** Where a collection moves path infos out of sight before it decides about them: their rows, by the same keys. */
export const CONDEMNED = 'condemned';

/** Moves a path info back, unless it has been put again. Within a transaction. */
export function restore(condemned: Table, infos: Table, hash: Uint8Array): void {
  const row = condemned.get(hash);
  if (row && !infos.has(hash)) infos.putSync(hash, row);
  condemned.removeSync(hash);
}

/** Puts back what a collection that was killed has left out of sight. One that is under way is left alone. */
export function finishCollection(env: Environment): void {
  const condemned = env.table(CONDEMNED);
  if (condemned.count === 0) return;
  let lock: number;
  try {
    lock = lockForDeleting(env);
  } catch (error) {
    if (error instanceof StoreError && error.code === 'UNAVAILABLE') return;
    throw error;
  }
  try {
    const infos = env.table('pathinfo');
    env.transaction(() => {
      for (const { key } of [...condemned.rows()]) restore(condemned, infos, key);
    });
  } finally {
    closeSync(lock);
  }
}
