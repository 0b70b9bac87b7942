import { StoreError } from '../../util/errors.ts';
import { openDatabase } from './database.ts';
import { withDatabaseAlone } from './exclusive.ts';
import { Table } from './table.ts';

/** Of the tables and rows, in the table `meta`: the one that this program reads and writes. */
export const FORMAT = 1;

/** A step from the format before `to` to it. It runs in a transaction: all of it happens, or nothing. */
export interface Upgrade {
  readonly to: number;
  run(table: (name: string) => Table): void;
}

/** The steps from the first format to this one (CONTRIBUTING.md, "How a format changes"). */
export const UPGRADES: readonly Upgrade[] = [];

/** Throws FAILED_PRECONDITION for a store of another format than this program's, and says what to do. */
export function requireFormat(dir: string, found: string | undefined): void {
  if (found === String(FORMAT)) return;
  const way = isNewer(found)
    ? 'use the version of tvix-store that made it'
    : 'tvix-store upgrade takes it there';
  const known = `this program knows ${FORMAT}`;
  throw new StoreError(
    'FAILED_PRECONDITION',
    /^\d+$/.test(found ?? '')
      ? `the store in ${dir} has format ${found}, ${known}: ${way}`
      : `the store in ${dir} has format ${found ?? 'none'}, ${known}`,
  );
}

/** Whether this program knows nothing of a format yet. */
export function isNewer(found: string | undefined): boolean {
  return /^\d+$/.test(found ?? '') && Number(found) > FORMAT;
}

/**
 * Takes the store in a directory to this program's format; gives the format that it had. Throws FAILED_PRECONDITION
 * when another process has it open, or its format is a newer one.
 */
export async function upgradeStore(dir: string, upgrades = UPGRADES): Promise<number> {
  return withDatabaseAlone(dir, `the store in ${dir} has to be converted`, async (alias) => {
    const root = openDatabase(alias);
    try {
      return root.transactionSync(() => {
        const meta = new Table(root, 'meta');
        const found = meta.get(FORMAT_KEY)?.toString();
        const target = Math.max(FORMAT, ...upgrades.map(({ to }) => to));
        if (!/^\d+$/.test(found ?? '') || Number(found) > target) requireFormat(dir, found);
        for (const { to, run } of upgrades) {
          if (to <= Number(found)) continue;
          run((name) => new Table(root, name));
          meta.putSync(FORMAT_KEY, Buffer.from(String(to)));
        }
        return Number(found);
      });
    } finally {
      await root.close();
    }
  });
}

export const FORMAT_KEY = Buffer.from('format');
