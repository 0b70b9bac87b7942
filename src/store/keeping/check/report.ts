import type { Gap } from '../../../castore/local/raw-database.ts';

/** A row, or what it names, that is not what it should be. */
export interface Damage {
  readonly table: string;
  /** In hexadecimal. */
  readonly key: string;
  readonly problem: string;
}

/** A store path that is touched by damage. */
export interface DamagedPath {
  /** With its name, where that is known. */
  readonly path: string;
  readonly hash: string;
  readonly problems: readonly string[];
}

/** Where a check goes on: a table, and the least key in it that has not been looked at, in hexadecimal. */
export interface Position {
  readonly table: string;
  readonly key: string;
}

/** How much of the machine a check may take. */
export interface Pace {
  /** It stops after so many milliseconds. */
  readonly budgetMs?: number | undefined;
  /** Bytes it reads in a second. */
  readonly rate?: number | undefined;
}

/** Findings of a check of a local store. */
export interface CheckReport {
  /** Faults of the database itself: it has to be rebuilt then. */
  readonly structure: readonly string[];
  readonly damages: readonly Damage[];
  /** Store paths that lack something, or something of which is damaged. */
  readonly paths: readonly DamagedPath[];
  /** Store paths that a collection which was cut short has left out of sight. */
  readonly hidden: readonly string[];
  /** Store paths that others refer to, and that are not there. */
  readonly missing: readonly DamagedPath[];
  /** Rows that were looked at, and bytes that were read. */
  readonly objects: number;
  readonly bytes: number;
  /** Rows in the store. */
  readonly total: number;
  /** Where the next check goes on, when this one has stopped before the end. */
  readonly next?: Position | undefined;
}

/** Messages of the process that checks, one JSON object a line. */
export type CheckMessage =
  | { readonly at: string; readonly table: string }
  | { readonly report: CheckReport }
  /** Faults of the database, seen by reading all of it. */
  | { readonly structure: readonly string[] }
  | { readonly copied: number }
  /** The format is one that this program does not know yet. */
  | { readonly newer: string };

/** The task of that process. */
export interface CheckTask {
  /** The directory of the store, and its database. */
  readonly dir: string;
  readonly database: string;
  /** Look at every page; verify everything; or copy what is good to another file. */
  readonly mode: 'touch' | 'verify' | 'copy';
  readonly target?: string;
  /** Say how far it is after so many rows. */
  readonly every?: number;
  readonly gaps: readonly Gap[];
  readonly verify?: VerifyTask;
}

/** What a verification is told. */
export interface VerifyTask extends Pace {
  /** Faults that reading all of the database has shown. */
  readonly structure: readonly string[];
  /** Where to begin, and what was found before it. */
  readonly from?: Position | undefined;
  readonly known?: readonly Damage[];
}
