import { StoreError } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { errno, errnoName, libc } from '../util/system/libc.ts';
import type { StandBy } from './fusermount.ts';
import { Fusermount } from './fusermount.ts';
import { isMounted, mountsAt } from './mount-table.ts';

const MNT_FORCE = 1;
const MNT_DETACH = 2;
const EBUSY = 16;

/** Takes one mount out of the tree of files. Made before there is one. */
export class Unmounting {
  readonly #mountPoint: string;
  readonly #standBy: StandBy | undefined;
  #device: string | undefined;
  #done: Promise<void> | undefined;

  /** `helper`: who does it for a user who may not. */
  constructor(mountPoint: string, helper: Fusermount | undefined) {
    this.#mountPoint = mountPoint;
    this.#standBy = helper?.standBy(mountPoint);
  }

  /** Notes what has been mounted: that alone is unmounted. */
  mounted(): void {
    this.#device = mountsAt(this.#mountPoint).at(-1)?.device;
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
    const isThere = this.#device !== undefined && mountsAt(this.#mountPoint).at(-1)?.device === this.#device;
    if (!isThere) this.#standBy?.dismiss();
    else if (!this.#standBy) unmountByCall(this.#mountPoint);
    else if (!(await this.#standBy.unmount())) log.error('cannot unmount', { mountPoint: this.#mountPoint });
  }
}

/** Unmounts what is mounted there, in the order that leaves nobody hanging. */
function unmountByCall(mountPoint: string): void {
  if (libc.umount2(mountPoint, 0) === 0) return;
  const error = errno();
  if (error === EBUSY) {
    log.warn('the mount is busy: its users get errors from now on', { mountPoint });
    // Aborts what is under way, which is its point here even where it says EBUSY as well.
    libc.umount2(mountPoint, MNT_FORCE);
  }
  if (isMounted(mountPoint) && libc.umount2(mountPoint, MNT_DETACH) !== 0) {
    log.error('cannot unmount', { mountPoint, error: errnoName(error) });
  }
}

/** Takes a dead mount out of the tree of files. Throws FAILED_PRECONDITION where that cannot be. */
export async function removeDead(path: string): Promise<void> {
  log.warn('cleaning up a dead mount', { path });
  if (libc.umount2(path, MNT_DETACH) === 0) return;
  const helper = await Fusermount.find().catch(() => undefined);
  if (!(await helper?.unmount(path)))
    throw new StoreError('FAILED_PRECONDITION', `a dead mount on ${path} cannot be unmounted`);
}
