import { readFileSync, writeSync } from 'node:fs';
import { openDatabase } from '../../../castore/local/database.ts';
import { FORMAT, FORMAT_KEY, isNewer } from '../../../castore/local/format.ts';
import { RawDatabase } from '../../../castore/local/raw-database.ts';
import { rowEpoch, withEpoch } from '../../../castore/local/rows.ts';
import type { TableRow } from '../../../castore/local/table.ts';
import { Table } from '../../../castore/local/table.ts';
import type { CheckMessage, CheckTask } from './report.ts';
import { EPOCHAL, faultsOf } from './structure.ts';
import { Verification } from './verification.ts';

/**
 * The process that reads a database which may be damaged. A damaged page may kill it: so it says at every row
 * how far it is, past all buffers, and keeps nothing that its parent needs.
 */
const task = JSON.parse(readFileSync(0, 'utf8')) as CheckTask;
const database = new RawDatabase(task.database, task.gaps);

let verified = 0;

function say(message: CheckMessage): void {
  const line = Buffer.from(`${JSON.stringify(message)}\n`);
  for (let at = 0; at < line.length; ) at += writeSync(1, line, at);
}

const format = database.get('meta', FORMAT_KEY)?.toString();

// What a newer program has written is not damage.
if (isNewer(format)) say({ newer: format! });
else if (task.mode === 'touch') say({ structure: database.names.flatMap(touch) });
else if (task.mode === 'verify')
  say({ report: new Verification(task.dir, database, task.gaps).run(task.verify!, everyFew) });
else copy(task.target!);

/** Says now and then that it goes on. */
function everyFew(table: string, key: Buffer): void {
  if (verified++ % task.every! === 0) say({ table, at: key.toString('hex') });
}

/** Reads a table to its end; gives its faults. */
function touch(table: string): string[] {
  let rows = 0;
  const onKey = (at: string) => {
    if (rows++ % task.every! === 0) say({ table, at });
  };
  return faultsOf(database, table, onKey);
}

/** Writes what is good into a new database. */
function copy(target: string): void {
  const verification = new Verification(task.dir, database, task.gaps);
  const { epoch, kind } = verification;
  const root = openDatabase(target);
  let copied = 0;
  const meta = new Table(root, 'meta');
  for (const [name, value] of Object.entries({ format: String(FORMAT), kind, epoch: String(epoch) })) {
    meta.putSync(Buffer.from(name), Buffer.from(value));
  }
  for (const name of database.names.filter((other) => other !== 'meta')) {
    const table = new Table(root, name);
    let batch: TableRow[] = [];
    const flush = () => {
      root.transactionSync(() => {
        for (const { key, value } of batch) table.putSync(key, value);
      });
      copied += batch.length;
      batch = [];
    };
    for (const { key, value } of database.rows(name)) {
      if (verification.verify(name, key, value).problem !== undefined) continue;
      batch.push({ key, value: EPOCHAL.includes(name) ? atMost(value, epoch) : value });
      if (batch.length >= 256) flush();
    }
    flush();
  }
  void root.close().then(() => say({ copied }));
}

/** The row with an epoch that has been. */
function atMost(row: Buffer, epoch: number): Buffer {
  return rowEpoch(row) > epoch ? withEpoch(row, epoch) : row;
}
