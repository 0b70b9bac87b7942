import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { messageOf, reasonOf, StoreError, systemCode } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { lockDescriptor } from '../../util/system/file-lock.ts';
import { errno, errnoName, libc } from '../../util/system/libc.ts';
import { OpenDirectory } from '../../util/system/open-directory.ts';
import { writeFailure } from '../../util/system/whole-file.ts';
import type { TreePlace } from './hard-links.ts';

const RENAME_NOREPLACE = 1;
const OPEN = constants.O_RDONLY | constants.O_DIRECTORY;
/** Where a file system or an old kernel cannot rename without replacing. */
const CANNOT = new Set(['EINVAL', 'ENOSYS']);
/** The file that stands for a run: what it has begun is `.tvix-store-<run>-<number>` beside it. */
const MARKER = /^\.tvix-store-([0-9a-f]{16})\.unfinished$/;
const markerName = (run: string) => `.tvix-store-${run}.unfinished`;
const markerText = (run: string) => `tvix-store realise ${run}\n`;

/**
 * A folder that trees are written into. Each is made under a temporary name and gets its own when it is complete. A
 * run that writes has a marker beside them: a file with a text that names it, which it holds a lock on (`flock`,
 * freed by the kernel when the process ends). So what a killed run left is told from what is anybody else's.
 *
 * It is reached through its descriptor: if somebody puts a link in its place, we go on where we began.
 */
export class ExportFolder {
  readonly #directory: OpenDirectory;
  readonly #path: string;
  readonly #temporary = new Set<string>();
  readonly #run = randomBytes(8).toString('hex');
  /** Of the marker, once there is one. */
  #marker: number | undefined;
  #places = 0;

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
    return new ExportFolder(new OpenDirectory(fd), path);
  }

  /** Takes away what runs have left that were killed: only what their markers show to be theirs. */
  removeLeftovers(): void {
    const names = readdirSync(this.#at(''));
    for (const marker of names) {
      const run = MARKER.exec(marker)?.[1];
      if (run === undefined || run === this.#run) continue;
      const fd = this.#openAbandoned(marker, run);
      if (fd === undefined) continue;
      try {
        const own = new RegExp(`^\\.tvix-store-${run}-\\d+$`);
        for (const name of names) if (own.test(name)) this.#remove(name);
        unlinkSync(this.#at(marker));
      } catch (error) {
        log.warn('cannot remove what a killed run has left', {
          at: this.path(marker),
          error: messageOf(error),
        });
      } finally {
        closeSync(fd);
      }
    }
  }

  /** Opens and locks the marker of a run that has ended; `undefined` for one that goes on, and for what is no marker. */
  #openAbandoned(name: string, run: string): number | undefined {
    let fd: number;
    try {
      fd = openSync(this.#at(name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch {
      return undefined;
    }
    const stat = fstatSync(fd);
    const text = markerText(run);
    const isMarker =
      stat.isFile() &&
      stat.uid === process.geteuid!() &&
      stat.size === text.length &&
      readFileSync(fd, 'latin1') === text;
    if (isMarker && lockDescriptor(fd, 'exclusive')) return fd;
    closeSync(fd);
    return undefined;
  }

  /** Makes this run's marker, before anything that it stands for. */
  #mark(): void {
    if (this.#marker !== undefined) return;
    const path = this.#at(markerName(this.#run));
    try {
      this.#marker = openSync(path, 'wx', 0o600);
      // Locked before it is one: an empty file is no marker.
      lockDescriptor(this.#marker, 'exclusive');
      writeSync(this.#marker, markerText(this.#run));
    } catch (error) {
      throw writeFailure(this.#path, error);
    }
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
    this.#mark();
    const name = `.tvix-store-${this.#run}-${this.#places++}`;
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
    if (this.#temporary.delete(name)) this.#remove(name);
  }

  #remove(name: string): void {
    removeTree(this.#at(name), mountOf(this.#directory.fd));
  }

  /** Takes away what did not get its name. */
  close(): void {
    try {
      for (const temporary of this.#temporary) this.#remove(temporary);
      if (this.#marker !== undefined) unlinkSync(this.#at(markerName(this.#run)));
    } catch (error) {
      // The marker stays, so that a later run tries again.
      log.warn('cannot remove what was not finished', { at: this.#path, error: messageOf(error) });
    } finally {
      if (this.#marker !== undefined) closeSync(this.#marker);
      this.#directory.close();
    }
  }
}

/**
 * Removes a tree, also where its directories are read-only or its paths longer than the system takes: each
 * directory is reached by its descriptor. Links are not followed. Throws at a directory that somebody has mounted there.
 */
function removeTree(path: Buffer, mount: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  if (!stat.isDirectory()) {
    unlinkSync(path);
    return;
  }
  const fd = openSync(path, OPEN | constants.O_NOFOLLOW);
  try {
    if (mountOf(fd) !== mount) throw new Error('something is mounted in it');
    fchmodSync(fd, 0o700);
    const base = Buffer.from(`/proc/self/fd/${fd}/`);
    for (const name of readdirSync(base, { encoding: 'buffer' }))
      removeTree(Buffer.concat([base, name]), mount);
  } finally {
    closeSync(fd);
  }
  rmdirSync(path);
}

/** The mount that an open file or directory is in; a bind mount is another one on the same device. */
function mountOf(fd: number): string {
  return /^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))![1]!;
}
