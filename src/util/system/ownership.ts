import { chmodSync, chownSync, fchmodSync, fchownSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectory } from './make-directory.ts';

const PERMISSIONS = 0o7777;
const READ_AND_WRITE = 0o666;

/**
 * The owner of a directory, to whom belongs what is made in it: root may do the housekeeping of a service, which is to
 * find nothing there that it cannot use. Directories get its mode as well, whatever the umask is.
 */
export class Ownership {
  readonly #uid: number;
  readonly #gid: number;
  readonly #mode: number;
  /** Only root can give something away. */
  readonly #gives: boolean;

  constructor(dir: string) {
    const { uid, gid, mode } = statSync(dir);
    this.#uid = uid;
    this.#gid = gid;
    this.#mode = mode & PERMISSIONS;
    this.#gives = process.geteuid!() === 0 && (uid !== 0 || gid !== process.getegid!());
  }

  /** Gives a file that was just made to the owner. */
  give(file: number | string): void {
    if (!this.#gives) return;
    if (typeof file === 'number') fchownSync(file, this.#uid, this.#gid);
    else chownSync(file, this.#uid, this.#gid);
  }

  /** Gives away a file that everybody has to write who may write into the directory. */
  share(fd: number): void {
    this.give(fd);
    fchmodSync(fd, this.#mode & READ_AND_WRITE);
  }

  /** Makes a directory, and those above it. */
  makeDirectory(path: string): void {
    const first = makeDirectory(path);
    if (first === undefined) return;
    for (let made = path; ; made = dirname(made)) {
      this.give(made);
      chmodSync(made, this.#mode);
      if (made === first) return;
    }
  }
}
