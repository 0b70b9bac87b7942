import { StoreError } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { errno, errnoName, libc } from '../util/system/libc.ts';
import type { StandBy } from './fusermount.ts';
import { Fusermount } from './fusermount.ts';
import type { MountEntry } from './mount-table.ts';
import { isCovered, mountAt, mountOf, TYPE } from './mount-table.ts';

const MNT_FORCE = 1;
const MNT_DETACH = 2;
const EBUSY = 16;

/** Takes one mount out of the tree of files. Made before there is one. */
export class Unmounting {
  readonly #mountPoint: string;
  readonly #standBy: StandBy | undefined;
  #mounted: MountEntry | undefined;
  #isServed = () => false;
  #done: Promise<void> | undefined;

  /** `helper`: who does it for a user who may not. */
  constructor(mountPoint: string, helper: Fusermount | undefined) {
    this.#mountPoint = mountPoint;
    this.#standBy = helper?.standBy(mountPoint);
  }

  /** Notes what has been mounted, if it has: that alone is unmounted. `isServed`: whether the kernel still has it. */
  mounted(isServed: () => boolean): void {
    const mount = mountAt(this.#mountPoint);
    if (mount?.type === TYPE) this.#mounted = mount;
    this.#isServed = isServed;
  }

  /**
   * Unmounts, if that has been mounted and nobody else has. A busy mount is detached: it is gone for whoever comes, and
   * its users get errors.
   */
  unmount(): Promise<void> {
    this.#done ??= this.#unmount();
    return this.#done;
  }

  async #unmount(): Promise<void> {
    const mount = this.#find();
    const isHidden = mount !== undefined && isCovered(mount);
    if (isHidden)
      log.warn('something is mounted over the mount, which stays below it, dead', { at: mount.mountPoint });
    if (!mount || isHidden) this.#standBy?.dismiss();
    else if (!this.#standBy) unmountByCall(mount);
    else if (!(await this.#standBy.unmount(mount.mountPoint)))
      log.error('cannot unmount', { mountPoint: mount.mountPoint });
  }

  /** The mount where it is now. It may have been moved, or a directory above it been renamed. */
  #find(): MountEntry | undefined {
    const before = this.#mounted;
    const now = before && mountOf(before.id);
    if (now?.device !== before?.device) return undefined;
    // When it has gone, the next mount of anybody gets its numbers.
    return now?.mountPoint === this.#mountPoint || this.#isServed() ? now : undefined;
  }
}

/** Unmounts a mount, in the order that leaves nobody hanging. */
function unmountByCall({ id, mountPoint }: MountEntry): void {
  if (libc.umount2(mountPoint, 0) === 0) return;
  const error = errno();
  if (error === EBUSY) {
    log.warn('the mount is busy: its users get errors from now on', { mountPoint });
    // Aborts what is under way, which is its point here even where it says EBUSY as well.
    libc.umount2(mountPoint, MNT_FORCE);
  }
  if (mountAt(mountPoint)?.id === id && libc.umount2(mountPoint, MNT_DETACH) !== 0) {
    log.error('cannot unmount', { mountPoint, error: errnoName(error) });
  }
}

/** Takes a dead mount out of the tree of files. Throws FAILED_PRECONDITION where that cannot be. */
export async function removeDead(path: string): Promise<void> {
  log.warn('cleaning up a dead mount', { path });
  if (libc.umount2(path, MNT_DETACH) === 0) return;
  const helper = await Fusermount.find().catch(() => undefined);
  if (!(await helper?.unmount(path)))
    throw new StoreError(
      'FAILED_PRECONDITION',
      `what is mounted on ${path}, or above it, is dead and cannot be unmounted`,
    );
}
