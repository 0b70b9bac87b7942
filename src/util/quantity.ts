import { UsageError } from './errors.ts';

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };
const BYTES: Readonly<Record<string, number>> = { B: 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Reads a duration such as `90m` as seconds. Throws a UsageError. */
export function parseDuration(text: string): number {
  return parseQuantity(text, SECONDS, 'a duration such as 30s, 90m, 12h, 7d or 2w');
}

/** Reads a size such as `20G`, in powers of 1024, as bytes. Throws a UsageError. */
export function parseSize(text: string): number {
  return parseQuantity(text.replace(/(?<=[KMGT])i?B$/, ''), BYTES, 'a size such as 4096B, 500M, 20G or 1T');
}

/** A number without a unit could mean anything, unless it is zero. */
function parseQuantity(text: string, units: Readonly<Record<string, number>>, wanted: string): number {
  const [, digits, unit] = /^(\d+)([A-Za-z]?)$/.exec(text) ?? [];
  if (digits !== undefined && Number(digits) === 0 && unit === '') return 0;
  if (digits !== undefined && unit === '') {
    throw new UsageError(`a number needs a unit; write ${wanted}`);
  }
  if (digits === undefined || !Object.hasOwn(units, unit!)) throw new UsageError(`write ${wanted}`);
  const value = Number(digits) * units[unit!]!;
  if (!Number.isSafeInteger(value)) throw new UsageError('that is too large');
  return value;
}
