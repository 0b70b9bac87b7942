import { closeSync, constants, fchmodSync, futimesSync } from 'node:fs';
import { asBuffer } from '../bytes.ts';
import { errno, errnoName, libc } from './libc.ts';

const AT_SYMLINK_NOFOLLOW = 0x100;
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** Longest path that the system takes, with the NUL at its end. */
const PATH_MAX = 4096;

const first = Buffer.alloc(PATH_MAX);
const second = Buffer.alloc(PATH_MAX);

/**
 * A directory by its descriptor. What is made is made in it, whatever becomes of the directory's own name
 * meanwhile, and never through a link: names must not contain slashes, but in `link`. Failures are errors as
 * those of Node's `fs`, with a code.
 */
export class OpenDirectory {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Makes a directory and opens it. */
  makeDirectory(name: Uint8Array, mode: number): OpenDirectory {
    const path = terminated(name, first);
    check(libc.mkdirat(this.fd, path, mode), 'mkdir');
    return new OpenDirectory(check(libc.openat(this.fd, path, DIRECTORY, 0), 'open'));
  }

  /** Makes a file, to be written to. Gives its descriptor. */
  makeFile(name: Uint8Array, mode: number): number {
    return check(libc.openat(this.fd, terminated(name, first), FILE, mode), 'open');
  }

  makeSymlink(name: Uint8Array, target: Uint8Array, time: number): void {
    const path = terminated(name, first);
    check(libc.symlinkat(terminated(target, second), this.fd, path), 'symlink');
    const times = Buffer.alloc(32);
    times.writeBigInt64LE(BigInt(time), 0);
    times.writeBigInt64LE(BigInt(time), 16);
    check(libc.utimensat(this.fd, path, times, AT_SYMLINK_NOFOLLOW), 'utimes');
  }

  /** Makes a hard link to what is at a path below another directory. */
  link(from: OpenDirectory, path: Uint8Array, name: Uint8Array): void {
    check(libc.linkat(from.fd, terminated(path, first), this.fd, terminated(name, second), 0), 'link');
  }

  setModeAndTime(mode: number, time: number): void {
    futimesSync(this.fd, time, time);
    fchmodSync(this.fd, mode);
  }

  close(): void {
    closeSync(this.fd);
  }
}

function terminated(name: Uint8Array, scratch: Buffer): Buffer {
  if (name.length >= PATH_MAX) throw systemError('ENAMETOOLONG', 'a path');
  scratch[asBuffer(name).copy(scratch)] = 0;
  return scratch;
}

function check(result: number, call: string): number {
  if (result < 0) throw systemError(errnoName(errno()), call);
  return result;
}

function systemError(code: string, call: string): Error {
  return Object.assign(new Error(`${code}: ${call}`), { code });
}
