import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { reasonOf, StoreError, systemCode } from '../../util/errors.ts';
import { lockDescriptor } from '../../util/system/file-lock.ts';
import { errno, errnoName, libc } from '../../util/system/libc.ts';
import { OpenDirectory } from '../../util/system/open-directory.ts';
import { writeFailure } from '../../util/system/whole-file.ts';
import type { TreePlace } from './hard-links.ts';

const RENAME_NOREPLACE = 1;
const OPEN = constants.O_RDONLY | constants.O_DIRECTORY;
/** Where a file system or an old kernel cannot rename without replacing. */
const CANNOT = new Set(['EINVAL', 'ENOSYS']);
const PREFIX = '.tvix-store-';

/**
 * A folder that trees are written into. Each is made under a temporary name, `.tvix-store-<random>`, and
 * gets its own when it is complete. A writer holds a shared lock on the folder (`flock`, which the kernel frees when
 * the process ends); one that finds it free removes the temporary names that others left.
 *
 * It is reached through its descriptor: if somebody puts a link in its place, we go on where we began.
 */
export class ExportFolder {
  readonly #directory: OpenDirectory;
  readonly #path: string;
  readonly #temporary = new Set<string>();

  private constructor(directory: OpenDirectory, path: string) {
    this.#directory = directory;
    this.#path = path;
  }

  /** Throws NOT_FOUND, INVALID_ARGUMENT or PERMISSION_DENIED when this is no folder to write into. */
  static open(path: string): ExportFolder {
    let fd: number;
    try {
      fd = openSync(path, OPEN);
    } catch (error) {
      const code = systemCode(error);
      if (code === 'ENOENT')
        throw new StoreError('NOT_FOUND', `${path} is not there; make the directory first`);
      if (code === 'ENOTDIR') throw new StoreError('INVALID_ARGUMENT', `${path} is not a directory`);
      throw new StoreError('PERMISSION_DENIED', `cannot open ${path}: ${reasonOf(error)}`, { cause: error });
    }
    const folder = new ExportFolder(new OpenDirectory(fd), path);
    folder.#cleanUp();
    return folder;
  }

  /** Takes away what killed writers left, if there is no living one; then counts as one itself. */
  #cleanUp(): void {
    if (lockDescriptor(this.#directory.fd, 'exclusive')) {
      for (const name of readdirSync(this.#at(''))) if (name.startsWith(PREFIX)) this.#tryRemove(name);
    }
    // Where there are no locks nothing is ever taken away that is not ours.
    lockDescriptor(this.#directory.fd, 'shared');
  }

  /** Where a name in this folder is, for people and for reading. */
  path(name: string): string {
    return join(this.#path, name);
  }

  /** Where a name in this folder is, whatever becomes of the folder's own name. */
  #at(name: string): Buffer {
    return Buffer.from(`/proc/self/fd/${this.#directory.fd}/${name}`);
  }

  has(name: string): boolean {
    return lstatSync(this.#at(name), { throwIfNoEntry: false }) !== undefined;
  }

  /** A place with a temporary name. */
  place(): TreePlace {
    const name = `${PREFIX}${randomBytes(8).toString('hex')}`;
    this.#temporary.add(name);
    return { parent: this.#directory, name };
  }

  /** Gives what is at a temporary name its own. False, and nothing is changed, when that is taken. */
  publish(place: TreePlace, name: string): boolean {
    const { fd } = this.#directory;
    const temporary = place.name;
    if (libc.renameat2(fd, temporary, fd, name, RENAME_NOREPLACE) !== 0) {
      const code = errnoName(errno());
      if (code === 'EEXIST') return false;
      if (!CANNOT.has(code)) throw writeFailure(name, { code });
      if (!this.#publishByHand(temporary, name)) return false;
    }
    this.#temporary.delete(temporary);
    place.name = name;
    return true;
  }

  #publishByHand(temporary: string, name: string): boolean {
    try {
      if (lstatSync(this.#at(temporary)).isDirectory()) {
        // A rename replaces no directory but an empty one, and there is none a moment before.
        if (this.has(name)) return false;
        renameSync(this.#at(temporary), this.#at(name));
      } else {
        linkSync(this.#at(temporary), this.#at(name));
        unlinkSync(this.#at(temporary));
      }
      return true;
    } catch (error) {
      const code = systemCode(error) ?? '';
      if (['EEXIST', 'ENOTEMPTY', 'ENOTDIR'].includes(code)) return false;
      throw writeFailure(name, error);
    }
  }

  /** Takes away what is at a temporary name. */
  discard({ name }: TreePlace): void {
    if (this.#temporary.delete(name)) removeTree(this.#at(name));
  }

  #tryRemove(name: string): void {
    try {
      removeTree(this.#at(name));
    } catch {
      // Somebody else's: it does no harm.
    }
  }

  /** Takes away what did not get its name. */
  close(): void {
    for (const temporary of this.#temporary) this.#tryRemove(temporary);
    this.#directory.close();
  }
}

/**
 * Removes a tree, also where its directories are read-only or its paths longer than the system takes: each
 * directory is reached by its descriptor. Links are not followed.
 */
function removeTree(path: Buffer): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  if (!stat.isDirectory()) {
    unlinkSync(path);
    return;
  }
  const fd = openSync(path, OPEN | constants.O_NOFOLLOW);
  try {
    fchmodSync(fd, 0o700);
    const base = Buffer.from(`/proc/self/fd/${fd}/`);
    for (const name of readdirSync(base, { encoding: 'buffer' })) removeTree(Buffer.concat([base, name]));
  } finally {
    closeSync(fd);
  }
  rmdirSync(path);
}
