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
  readonly objects: number;
  readonly bytes: number;
}

/** Messages of the process that checks, one JSON object a line. */
export type CheckMessage =
  | { readonly at: string; readonly table: string }
  | { readonly report: CheckReport }
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
}
