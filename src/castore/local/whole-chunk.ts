import { fstatSync, readSync } from 'node:fs';
import { systemCode } from '../../util/errors.ts';

/** Reads a file that has as many bytes as there are; false where it has others, or the disk does not give them. */
export function readsWhole(fd: number, bytes: Uint8Array): boolean {
  try {
    return fstatSync(fd).size === bytes.length && readSync(fd, bytes, 0, bytes.length, 0) === bytes.length;
  } catch (error) {
    if (systemCode(error) === 'EIO') return false;
    throw error;
  }
}
