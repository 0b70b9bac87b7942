import { closeSync, openSync, writeFileSync } from 'node:fs';
import { reasonOf, StoreError, systemCode } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { errno, errnoName, libc } from '../util/system/libc.ts';
import { isConnected } from './connection.ts';
import { Fusermount } from './fusermount.ts';
import type { MountOptions } from './mount-options.ts';
import { ALWAYS, flagsOf, NAME } from './mount-options.ts';
import { mountAt, TYPE } from './mount-table.ts';
import { MAX_READ } from './protocol.ts';
import { Unmounting } from './unmounting.ts';

const EPERM = 1;
const EINVAL = 22;
/** Root of a mount: a directory, read and search for all. */
const ROOT_MODE = '40555';
const READ_AHEAD_KIB = MAX_READ / 1024;

/** A mounted FUSE device. */
export interface Mounted {
  readonly fd: number;
  /** See `Unmounting`. */
  unmount(): Promise<void>;
}

/** Mounts on a prepared mount point, by the system call or with `fusermount3`. */
export async function mountDevice(mountPoint: string, options: MountOptions): Promise<Mounted> {
  const device = mountByCall(mountPoint, options);
  const helper = device === undefined ? await Fusermount.find() : undefined;
  const unmounting = new Unmounting(mountPoint, helper);
  try {
    const fd = device ?? (await helper!.mount(mountPoint, helperOptions(options)));
    unmounting.mounted(() => isConnected(fd));
    return { fd, unmount: () => unmounting.unmount() };
  } catch (error) {
    await unmounting.unmount();
    throw error;
  }
}

function helperOptions({ source, others }: MountOptions): string[] {
  const fsname = source.replace(/[\\,]/g, '\\$&');
  return [...ALWAYS, `fsname=${fsname}`, `subtype=${NAME}`, ...others];
}

/** Mounts by the system call; `undefined` when this user may not. */
function mountByCall(mountPoint: string, { source, others }: MountOptions): number | undefined {
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
  const { flags, data } = flagsOf([...ALWAYS, ...others]);
  const ids = `user_id=${process.getuid!()},group_id=${process.getgid!()}`;
  const all = [`fd=${fd}`, `rootmode=${ROOT_MODE}`, ids, ...data].join(',');
  if (libc.mount(source, mountPoint, TYPE, flags, all) === 0) return fd;
  const error = errno();
  closeSync(fd);
  if (error === EPERM) return undefined;
  const why = error === EINVAL ? `this kernel does not take ${data.join(',')}` : errnoName(error);
  throw new StoreError('FAILED_PRECONDITION', `cannot mount on ${mountPoint}: ${why}`);
}

/** Lets the kernel read ahead in requests as long as one may be. Only root may say so. */
export function raiseReadAhead(mountPoint: string): void {
  const device = mountAt(mountPoint)?.device;
  try {
    writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(READ_AHEAD_KIB));
  } catch (error) {
    log.debug('read-ahead stays as it is', { error: systemCode(error) });
  }
}
