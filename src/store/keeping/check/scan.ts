import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { databasePath } from '../../../castore/local/database.ts';
import { requireFormat } from '../../../castore/local/format.ts';
import type { Gap } from '../../../castore/local/raw-database.ts';
import { StoreError } from '../../../util/errors.ts';
import { log } from '../../../util/log.ts';
import type { CheckMessage, CheckReport, CheckTask, VerifyTask } from './report.ts';

/** A process that says nothing for so long hangs, in milliseconds. Verifying a row takes as long as a disk does. */
const SILENCE_MS = 60_000;
/** Attempts to get past damaged pages. */
const MAX_CRASHES = 400;
/** Rows after which the process says how far it is, as long as all goes well. */
const COARSE = 256;
/**
 * Width of the first gap behind a key, as a part of all keys: 2 to the power of minus this; and how much wider the
 * next one is, as a power of 2.
 */
const FIRST_WIDTH = 20;
const WIDER = 3;

const WAY_OUT = 'put it back from a backup; or, to begin anew, move the directory away';

/** The faults of a database as such. */
export interface DatabaseFaults {
  /** Where its pages cannot be read. */
  readonly gaps: readonly Gap[];
  readonly structure: readonly string[];
}

/** Finds the faults of a database by reading all of it. */
export async function findFaults(
  dir: string,
  database = databasePath(dir),
  onRows: OnRows = () => {},
): Promise<DatabaseFaults> {
  const gaps: Gap[] = [];
  let every = COARSE;
  for (let crashes = 0; crashes < MAX_CRASHES; crashes++) {
    const { ok, last, message } = await run({ dir, database, mode: 'touch', gaps, every }, onRows);
    if (ok) return { gaps, structure: message && 'structure' in message ? message.structure : [] };
    if (every === COARSE) {
      // Once more, to know where exactly.
      every = 1;
      continue;
    }
    if (!last) throw new StoreError('DATA_LOSS', `the database in ${dir} cannot be read at all: ${WAY_OUT}`);
    const { table, at } = last;
    const reached = gaps.find((gap) => gap.table === table && (gap.to === at || gap.from === at));
    if (!reached) gaps.push(widened({ table, from: at, to: at }, FIRST_WIDTH));
    else gaps[gaps.indexOf(reached)] = widened(reached, widthOf(reached) - WIDER);
  }
  throw new StoreError('DATA_LOSS', `the database in ${dir} is damaged in too many places: ${WAY_OUT}`);
}

/** Checks rows. */
export async function verify(
  dir: string,
  gaps: readonly Gap[],
  task: VerifyTask,
  onRows: OnRows,
): Promise<CheckReport> {
  const database = databasePath(dir);
  const { ok, message } = await run(
    { dir, database, mode: 'verify', gaps, every: COARSE, verify: task },
    onRows,
  );
  if (!ok || !message || !('report' in message)) throw crashed(dir);
  return message.report;
}

/** Writes what is good in a database of a store to a new one. */
export async function copyGood(dir: string, database: string, target: string): Promise<void> {
  const { gaps } = await findFaults(dir, database);
  const { ok, message } = await run({ dir, database, mode: 'copy', gaps, target });
  if (!ok || !message || !('copied' in message)) throw crashed(dir);
}

function crashed(dir: string): StoreError {
  return new StoreError(
    'DATA_LOSS',
    `the process that checks the database in ${dir} ended: is the disk sound? Without --budget, tvix-store fsck looks for the place`,
  );
}

function widthOf({ from, to }: Gap): number {
  const width = to === undefined ? 1 : numberOf(to) - numberOf(from);
  return Math.round(-Math.log2(width));
}

/** Widens a gap to a part of 2 to the power of minus `width` of all keys. */
function widened({ table, from }: Gap, width: number): Gap {
  const end = numberOf(from) + 2 ** -width;
  if (width <= 0 || end >= 1) return { table, from };
  return {
    table,
    from,
    to: BigInt(Math.ceil(end * 2 ** 48))
      .toString(16)
      .padStart(12, '0'),
  };
}

/** A key as a number from 0 up to 1. */
function numberOf(hex: string): number {
  return Number.parseInt(hex.slice(0, 12).padEnd(12, '0'), 16) / 2 ** 48;
}

/** Hears now and then of which table rows are looked at. */
export type OnRows = (table: string) => void;

interface Outcome {
  readonly ok: boolean;
  /** How far it said it was. */
  readonly last: { readonly table: string; readonly at: string } | undefined;
  readonly message: CheckMessage | undefined;
}

async function run(task: CheckTask, onRows: OnRows = () => {}): Promise<Outcome> {
  const child = spawn(process.execPath, ['--disable-sigusr1', program()], { stdio: 'pipe' });
  // A process that cannot even read its task says so by its end.
  child.stdin.on('error', () => {}).end(JSON.stringify(task));
  const ended = once(child, 'close');
  const complaint = text(child.stderr);
  let last: Outcome['last'];
  let message: CheckMessage | undefined;
  const silence = task.mode === 'touch' ? setTimeout(() => child.kill('SIGKILL'), SILENCE_MS) : undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    silence?.refresh();
    const said = parse(line);
    if (said && 'at' in said) {
      last = said;
      onRows(said.table);
    } else message = said;
  }
  clearTimeout(silence);
  const [status] = await ended;
  if (message && 'newer' in message) requireFormat(task.dir, message.newer);
  if (status !== 0) log.debug('reading the database ended a process', { status, error: await complaint });
  return { ok: status === 0, last, message };
}

/** A line that was cut short says nothing. */
function parse(line: string): CheckMessage | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** It is always the built one, also from sources, as in tests. */
function program(): string {
  const beside = fileURLToPath(new URL('./process.js', import.meta.url));
  return existsSync(beside) ? beside : beside.replace('/src/', '/dist/');
}
