import { RecordFile } from '../record-file.ts';
import type { CheckReport, Damage, Position } from './report.ts';

/** The result of a check that came to its end. */
export interface CheckSummary {
  /** When, in milliseconds since 1970. */
  readonly begun: number;
  readonly finished: number;
  readonly objects: number;
  readonly bytes: number;
  /** Rows that are damaged, and faults of the database itself. */
  readonly damages: number;
  readonly structure: number;
  /** Store paths that are damaged, hidden, or missing though others refer to them. */
  readonly damagedPaths: number;
  readonly hiddenPaths: number;
  readonly missingPaths: number;
  /** What it found has been mended, as far as that could be done. */
  readonly isRepaired?: boolean;
}

/** How far a check is that goes on another time, and what it has found. */
export interface CheckProgress {
  readonly begun: number;
  readonly objects: number;
  readonly bytes: number;
  readonly damages: readonly Damage[];
  readonly next?: Position | undefined;
}

/** What is remembered of the checks of a store: a file `fsck.json` in its directory. */
export interface CheckRecord {
  readonly last?: CheckSummary | undefined;
  readonly running?: CheckProgress | undefined;
}

export function summaryOf(
  { structure, damages, paths, hidden, missing, objects, bytes }: CheckReport,
  begun: number,
): CheckSummary {
  return {
    begun,
    finished: Date.now(),
    objects,
    bytes,
    damages: damages.length,
    structure: structure.length,
    damagedPaths: paths.length,
    hiddenPaths: hidden.length,
    missingPaths: missing.length,
  };
}

export function isAllWell({
  damages,
  structure,
  damagedPaths,
  hiddenPaths,
  missingPaths,
}: CheckSummary): boolean {
  return damages + structure + damagedPaths + hiddenPaths + missingPaths === 0;
}

/** Nothing where there is none, or none that can be read: then checks begin anew. */
export function loadCheck(dir: string): CheckRecord {
  const { last, running } = recordIn(dir).load() as CheckRecord;
  return { last: isSummary(last) ? last : undefined, running: isProgress(running) ? running : undefined };
}

function isSummary(last: Partial<CheckSummary> | undefined): last is CheckSummary {
  return (
    areNumbers(last?.begun, last?.finished, last?.damages, last?.structure) &&
    areNumbers(last?.damagedPaths, last?.hiddenPaths, last?.missingPaths)
  );
}

function isProgress(running: Partial<CheckProgress> | undefined): running is CheckProgress {
  const { next, damages } = running ?? {};
  return (
    areNumbers(running?.begun, running?.objects, running?.bytes) &&
    Array.isArray(damages) &&
    damages.every(({ table, key, problem }) => areStrings(table, key, problem)) &&
    areStrings(next?.table, next?.key)
  );
}

function areNumbers(...values: readonly unknown[]): boolean {
  return values.every((value) => typeof value === 'number');
}

function areStrings(...values: readonly unknown[]): boolean {
  return values.every((value) => typeof value === 'string');
}

/** Remembers, if that can be: what was found has been told. */
export function saveCheck(dir: string, record: CheckRecord): void {
  recordIn(dir).save(record);
}

function recordIn(dir: string): RecordFile {
  return new RecordFile(dir, 'fsck.json');
}
