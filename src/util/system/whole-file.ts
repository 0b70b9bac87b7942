import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { reasonOf, StoreError, systemCode } from '../errors.ts';

export interface NewFile {
  /** Its permissions. */
  readonly mode?: number;
  /** Never over one that is there. */
  readonly exclusive?: boolean;
}

/**
 * Writes a file that appears whole and on disk, over one that may be there, or not at all. A kill may leave a
 * file named `.tmp-…` beside it, and an empty one in its place where it is exclusive. Throws NO_SPACE and PERMISSION_DENIED, and FAILED_PRECONDITION when the file is there
 * and must not be.
 */
export async function writeWholeFile(
  path: string,
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  { mode = 0o644, exclusive = false }: NewFile = {},
): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.tmp-${randomBytes(8).toString('hex')}-${basename(path)}`);
  let fd: number | undefined;
  try {
    fd = openSync(temporary, 'wx', mode);
    for await (const part of parts) {
      for (let at = 0; at < part.length; ) at += writeSync(fd, part, at, part.length - at);
    }
    fsyncSync(fd);
    // Its name is taken first: not every file system has hard links, nor a rename that replaces nothing.
    if (exclusive) closeSync(openSync(path, 'wx', mode));
    renameSync(temporary, path);
    syncFolder(folder);
  } catch (error) {
    throw writeFailure(path, error);
  } finally {
    if (fd !== undefined) {
      tryUnlink(temporary);
      closeSync(fd);
    }
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function tryUnlink(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It has been renamed.
  }
}

/** Turns the failure of a system call on `what` into a StoreError. Other errors stay as they are. */
export function writeFailure(what: string, error: unknown): unknown {
  const code = systemCode(error);
  if (error instanceof StoreError || code === undefined) return error;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new StoreError('NO_SPACE', `cannot write ${what}: no space left`, { cause: error });
  }
  if (code === 'EEXIST') {
    return new StoreError('FAILED_PRECONDITION', `${what} is there already, and is left as it is`, {
      cause: error,
    });
  }
  const denied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
  return new StoreError(
    denied ? 'PERMISSION_DENIED' : 'INTERNAL',
    `cannot write ${what}: ${reasonOf(error)}`,
    {
      cause: error,
    },
  );
}
