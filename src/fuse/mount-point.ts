import { closeSync, constants, open } from 'node:fs';
import { realpath, stat, statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { inTime } from '../util/async/in-time.ts';
import { StoreError, systemCode } from '../util/errors.ts';
import { lockDescriptor } from '../util/system/file-lock.ts';
import { errno } from '../util/system/libc.ts';
import { isMounted } from './mount-table.ts';
import { removeDead } from './unmounting.ts';

/** How long a file system may take to answer, in milliseconds. That of a stopped server never does. */
const ANSWER_MS = 2000;
/** How long to wait for another process that is mounting there, in milliseconds, and how often to look. */
const CLAIM_MS = 5000;
const LOOK_MS = 50;
const EWOULDBLOCK = 11;

const openFile = promisify(open);

/**
 * The mount point as the kernel names it, free of the corpse that a killed process may have left. Throws when there is
 * no such directory, when a mount of ours is there already, or when what is there does not answer.
 */
export async function prepareMountPoint(path: string): Promise<string> {
  for (;;) {
    try {
      return await inTime(lookAt(path), ANSWER_MS);
    } catch (error) {
      if (error instanceof StoreError && error.code === 'DEADLINE_EXCEEDED')
        throw new StoreError(
          'FAILED_PRECONDITION',
          `${path} does not answer: the process that serves it, or a mount above it, is stopped or hangs; end that, or "umount -f" it`,
        );
      if (systemCode(error) === 'ENOENT') throw new StoreError('NOT_FOUND', `${path} ${whyAbsent(path)}`);
      if (systemCode(error) !== 'ENOTCONN') throw error;
      await removeDead(resolve(path));
    }
  }
}

/** Arguments that are not UTF-8 reach no program of Node as they are. */
function whyAbsent(path: string): string {
  if (path.includes('\ufffd'))
    return 'is not there under this name; one that is not UTF-8 cannot be a mount point';
  return 'does not exist; make the directory first';
}

/** Looks at the mount point. What is asked may never be answered, so none of it is asked in this thread. */
async function lookAt(path: string): Promise<string> {
  const mountPoint = await realpath(path);
  if (isMounted(mountPoint)) {
    // Attributes may come from the kernel's memory; the usage is asked for.
    await statfs(mountPoint);
    throw occupied(path);
  }
  if (!(await stat(mountPoint)).isDirectory())
    throw new StoreError('INVALID_ARGUMENT', `${path} is not a directory`);
  return mountPoint;
}

function occupied(path: string): StoreError {
  return new StoreError('FAILED_PRECONDITION', `something is mounted on ${path} already; unmount it first`);
}

/**
 * Keeps other processes of ours from mounting on a prepared mount point, until the function that it gives is called: of
 * two that begin at the same moment, one is refused. Throws FAILED_PRECONDITION when another one was faster.
 */
export async function claimMountPoint(mountPoint: string): Promise<() => void> {
  const fd = await inTime(openFile(mountPoint, constants.O_RDONLY | constants.O_DIRECTORY), ANSWER_MS);
  try {
    const until = performance.now() + CLAIM_MS;
    // Some file systems of networks know no such locks.
    while (!lockDescriptor(fd, 'exclusive') && errno() === EWOULDBLOCK) {
      if (performance.now() > until)
        throw new StoreError('FAILED_PRECONDITION', `another process is mounting on ${mountPoint}`);
      await delay(LOOK_MS);
    }
    // The descriptor may be of the directory below what has been mounted meanwhile.
    if (isMounted(mountPoint)) throw occupied(mountPoint);
    return () => closeSync(fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
