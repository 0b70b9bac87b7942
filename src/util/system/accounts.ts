import { libc, memoryAt } from './libc.ts';

/** Length of the part of `struct passwd` and `struct group` that is read: two pointers, then the number. */
const ENTRY_LENGTH = 24;
const NUMBER_AT = 16;

/** The number of a user by name; `undefined` when there is none. */
export function userNumber(name: string): number | undefined {
  return numberIn(libc.getpwnam(name));
}

/** The number of a group by name; `undefined` when there is none. */
export function groupNumber(name: string): number | undefined {
  return numberIn(libc.getgrnam(name));
}

function numberIn(entry: number): number | undefined {
  if (entry === 0) return undefined;
  return new DataView(memoryAt(entry, ENTRY_LENGTH)).getUint32(NUMBER_AT, true);
}
