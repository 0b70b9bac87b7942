import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode } from '../errors.ts';

/**
 * Makes a directory, and those above it; gives the first one that was made, if any. Asked for all at once, Node goes
 * round for ever where nothing can be made though the directory above is there, as in `/proc`. Throws what the system
 * says.
 */
export function makeDirectory(path: string, mode = 0o777): string | undefined {
  const make = () => {
    try {
      mkdirSync(path, { mode });
      return true;
    } catch (error) {
      if (systemCode(error) !== 'EEXIST' || !statSync(path).isDirectory()) throw error;
      return false;
    }
  };
  try {
    return make() ? path : undefined;
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' || dirname(path) === path) throw error;
    const above = makeDirectory(dirname(path), mode);
    return make() ? (above ?? path) : above;
  }
}
