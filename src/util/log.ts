import { writeSync } from 'node:fs';
import { takesMore } from './system/poll-set.ts';

/** Values that belong to a log line; they are printed as `key=value`. */
export type Fields = Record<string, string | number | bigint | boolean | undefined>;

export const LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type Level = (typeof LEVELS)[number];

/** How lines are written: for people, or each as an object of JSON. */
export const FORMATS = ['text', 'json'] as const;
export type Format = (typeof FORMATS)[number];

/** What is logged, and how. */
export interface LogSettings {
  readonly level: Level;
  readonly format: Format;
}

let threshold = LEVELS.indexOf('info');
let format: Format = 'text';

/** Lines below this level are not printed. */
export function setLogLevel(level: Level): void {
  threshold = LEVELS.indexOf(level);
}

export function setLogFormat(chosen: Format): void {
  format = chosen;
}

/** Those of this thread, for another one. */
export function logSettings(): LogSettings {
  return { level: LEVELS[threshold]!, format };
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
  if (!waits && !takesMore(2)) {
    lost++;
    return;
  }
  let text = logLine(level, message, fields);
  if (lost > 0)
    text = logLine('warn', 'lines of the log were lost, which nobody read', { count: lost }) + text;
  lost = 0;
  try {
    // Written at once, so that a worker's lines appear while the main thread is busy.
    writeSync(2, text);
  } catch {
    // Nobody reads our log: no reason to fail.
  }
}

/** A line of the log, as it is written. */
export function logLine(level: Level, message: string, fields: Fields = {}): string {
  return `${format === 'json' ? asJson(level, message, fields) : asText(level, message, fields)}\n`;
}

function asText(level: Level, message: string, fields: Fields): string {
  let text = `${level}: ${message}`;
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const shown = String(value);
    text += ` ${key}=${/^[^\s"=]+$/.test(shown) ? shown : JSON.stringify(shown)}`;
  }
  return text;
}

function asJson(level: Level, message: string, fields: Fields): string {
  const line = { time: new Date().toISOString(), level, message, fields };
  return JSON.stringify(line, (_, value) => (typeof value === 'bigint' ? Number(value) : value));
}

/** Log lines to standard error. Of those for people, journald and the like add the time. */
export const log = {
  debug: (message: string, fields?: Fields) => line('debug', message, fields),
  info: (message: string, fields?: Fields) => line('info', message, fields),
  warn: (message: string, fields?: Fields) => line('warn', message, fields),
  error: (message: string, fields?: Fields) => line('error', message, fields),
};
