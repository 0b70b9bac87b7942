import { spawnSync } from 'node:child_process';
import { closeSync, openSync, realpathSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { reasonOf, StoreError, systemCode } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { errno, errnoName, libc } from '../util/system/libc.ts';
import { mountWithHelper } from './fusermount.ts';
import { mountsAt } from './mount-table.ts';

const TYPE = 'fuse.tvix-store';
const SOURCE = 'tvix-store';
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOATIME = 1024;
const MNT_FORCE = 1;
const MNT_DETACH = 2;
const EPERM = 1;
const EBUSY = 16;
/** Root of a mount: a directory, read and search for all. */
const ROOT_MODE = '40555';
const READ_AHEAD_KIB = 1024;

/** A mounted FUSE device. */
export interface Mounted {
  readonly fd: number;
  readonly mountPoint: string;
  /**
   * Unmounts, if somebody else has not. A busy mount is detached: it is gone for whoever comes, and its
   * users get errors.
   */
  unmount(): void;
}

/**
 * The mount point as the kernel names it, free of the corpse that a killed process may have left. Throws
 * when there is no such directory, or a live mount of ours already.
 */
export function prepareMountPoint(path: string): string {
  for (;;) {
    try {
      const stat = statSync(path);
      if (!stat.isDirectory()) throw new StoreError('INVALID_ARGUMENT', `${path} is not a directory`);
      const mountPoint = realpathSync(path);
      if (isMounted(mountPoint)) {
        // Attributes may come from the kernel's memory; the usage is asked for.
        statfsSync(mountPoint);
        throw new StoreError(
          'FAILED_PRECONDITION',
          `something is mounted on ${path} already; unmount it first`,
        );
      }
      return mountPoint;
    } catch (error) {
      if (systemCode(error) === 'ENOENT')
        throw new StoreError('NOT_FOUND', `${path} does not exist; make the directory first`);
      if (systemCode(error) !== 'ENOTCONN') throw error;
      log.warn('cleaning up a dead mount', { path });
      if (!detach(path))
        throw new StoreError('FAILED_PRECONDITION', `a dead mount on ${path} cannot be unmounted`);
    }
  }
}

/** Mounts on a prepared mount point, by the system call or with `fusermount3`. */
export function mountDevice(mountPoint: string, options: { readonly allowOther: boolean }): Mounted {
  const flags = ['default_permissions', ...(options.allowOther ? ['allow_other'] : [])];
  const fd =
    mountByCall(mountPoint, flags) ??
    mountWithHelper(mountPoint, [
      'ro',
      'nosuid',
      'nodev',
      'noatime',
      `fsname=${SOURCE}`,
      `subtype=${SOURCE}`,
      ...flags,
    ]);
  const device = mountsAt(mountPoint).at(-1)?.device;
  return {
    fd,
    mountPoint,
    unmount() {
      if (mountsAt(mountPoint).at(-1)?.device === device) unmountPath(mountPoint);
    },
  };
}

/** Mounts by the system call; `undefined` when this user may not. */
function mountByCall(mountPoint: string, flags: readonly string[]): number | undefined {
  let fd: number;
  try {
    fd = openSync('/dev/fuse', 'r+');
  } catch (error) {
    // Where the device is root's alone, the helper still opens it.
    if (systemCode(error) === 'EACCES') return undefined;
    throw new StoreError(
      'FAILED_PRECONDITION',
      `cannot open /dev/fuse: ${reasonOf(error)}; load the kernel module "fuse"`,
    );
  }
  const ids = `user_id=${process.getuid!()},group_id=${process.getgid!()}`;
  const data = [`fd=${fd}`, `rootmode=${ROOT_MODE}`, ids, ...flags].join(',');
  const mounted =
    libc.mount(SOURCE, mountPoint, TYPE, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME, data) === 0;
  if (mounted) return fd;
  const error = errno();
  closeSync(fd);
  if (error === EPERM) return undefined;
  throw new StoreError('FAILED_PRECONDITION', `cannot mount on ${mountPoint}: ${errnoName(error)}`);
}

/** Whether one of our mounts is there. */
export function isMounted(mountPoint: string): boolean {
  return mountsAt(mountPoint).at(-1)?.type === TYPE;
}

/** Lets the kernel read ahead in requests as long as one may be. Only root may say so. */
export function raiseReadAhead(mountPoint: string): void {
  const device = mountsAt(mountPoint).at(-1)?.device;
  try {
    writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(READ_AHEAD_KIB));
  } catch (error) {
    log.debug('read-ahead stays as it is', { error: systemCode(error) });
  }
}

/** Unmounts what is mounted there, in the order that leaves nobody hanging. */
export function unmountPath(mountPoint: string): void {
  if (libc.umount2(mountPoint, 0) === 0) return;
  const error = errno();
  if (error === EBUSY) {
    log.warn('the mount is busy: its users get errors from now on', { mountPoint });
    // Aborts what is under way, which is its point here even where it says EBUSY as well.
    libc.umount2(mountPoint, MNT_FORCE);
  }
  if (isMounted(mountPoint) && !detach(mountPoint)) {
    log.error('cannot unmount', { mountPoint, error: errnoName(error) });
  }
}

/** Takes a mount out of the tree at once; true when that worked. */
function detach(path: string): boolean {
  if (libc.umount2(path, MNT_DETACH) === 0) return true;
  return spawnSync('fusermount3', ['-u', '-z', '--', path], { stdio: 'ignore' }).status === 0;
}
