import { writeSync } from 'node:fs';
import { takesMore } from './system/poll-set.ts';

/** Values that belong to a log line; they are printed as `key=value`. */
export type Fields = Record<string, string | number | bigint | boolean | undefined>;

export const LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type Level = (typeof LEVELS)[number];

let threshold = LEVELS.indexOf('info');

/** Lines below this level are not printed. */
export function setLogLevel(level: Level): void {
  threshold = LEVELS.indexOf(level);
}

export function currentLogLevel(): Level {
  return LEVELS[threshold]!;
}

let waits = true;
/** Lines that were left out since the last one. */
let lost = 0;

/**
 * From now on a line that cannot be written at once is left out: who reads the log may itself wait for this process,
 * which serves files to it.
 */
export function neverWaitToLog(): void {
  waits = false;
}

function line(level: Level, message: string, fields: Fields = {}): void {
  if (LEVELS.indexOf(level) < threshold) return;
  let text = `${level}: ${message}`;
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const shown = String(value);
    text += ` ${key}=${/^[^\s"=]+$/.test(shown) ? shown : JSON.stringify(shown)}`;
  }
  if (!waits && !takesMore(2)) {
    lost++;
    return;
  }
  if (lost > 0) text = `warn: lines of the log were lost, which nobody read count=${lost}\n${text}`;
  lost = 0;
  try {
    // Written at once, so that a worker's lines appear while the main thread is busy.
    writeSync(2, `${text}\n`);
  } catch {
    // Nobody reads our log: no reason to fail.
  }
}

/** Log lines to standard error; journald and the like add the time. */
export const log = {
  debug: (message: string, fields?: Fields) => line('debug', message, fields),
  info: (message: string, fields?: Fields) => line('info', message, fields),
  warn: (message: string, fields?: Fields) => line('warn', message, fields),
  error: (message: string, fields?: Fields) => line('error', message, fields),
};
