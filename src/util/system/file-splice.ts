import { CallBuffer } from './call-buffer.ts';
import { libc } from './libc.ts';

/** A pipe holds so many bytes, if anybody may have that much; this is also what one may have without privileges. */
const PIPE_LENGTH = 1 << 20;
const PAGE = 4096;
const F_SETPIPE_SZ = 1031;
const F_GETPIPE_SZ = 1032;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const SPLICE_F_NONBLOCK = 2;

/** A part of a file, in bytes. */
export interface FilePart {
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
}

interface Pipe {
  readonly out: number;
  readonly in: number;
  readonly pages: number;
}

/** Writes parts of files without copying them into this process: the kernel takes them from where it has them. */
export class FileSplice {
  readonly #offset = new CallBuffer(BigInt64Array.BYTES_PER_ELEMENT);
  /** Opened when it is first needed; `false` where there can be none. */
  #pipe: Pipe | false | undefined;
  /** Something may lie in the pipe that was refused. */
  #isLittered = false;

  /**
   * Writes what lies at an address, and parts of files behind it, in one go. Gives what `write` would; `undefined`, and
   * nothing is written, where that is not possible, or a file has become shorter.
   */
  write(fd: number, address: number, length: number, parts: readonly FilePart[]): number | undefined {
    if (this.#isLittered) this.close();
    this.#pipe ??= openPipe();
    if (!this.#pipe || !hasRoom(this.#pipe, length, parts)) return undefined;
    let total = length;
    let isFull = libc.write(this.#pipe.in, address, length) === length;
    for (const part of parts) {
      isFull &&= this.#fill(this.#pipe, part);
      total += part.length;
    }
    const sent = isFull ? libc.splice(this.#pipe.out, 0, fd, 0, total, SPLICE_F_NONBLOCK) : undefined;
    this.#isLittered = sent !== total;
    return sent;
  }

  #fill(pipe: Pipe, { fd, offset, length }: FilePart): boolean {
    this.#offset.bytes.writeBigInt64LE(BigInt(offset));
    for (let left = length; left > 0; ) {
      const count = libc.splice(fd, this.#offset.address, pipe.in, 0, left, SPLICE_F_NONBLOCK);
      if (count <= 0) return false;
      left -= count;
    }
    return true;
  }

  close(): void {
    if (!this.#pipe) return;
    // Node warns of the end of a descriptor in a thread in which it did not begin it.
    libc.close(this.#pipe.in);
    libc.close(this.#pipe.out);
    this.#pipe = undefined;
    this.#isLittered = false;
  }
}

function openPipe(): Pipe | false {
  const fds = Buffer.alloc(8);
  if (libc.pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0) return false;
  const pipe = { out: fds.readInt32LE(0), in: fds.readInt32LE(4) };
  libc.fcntl(pipe.in, F_SETPIPE_SZ, PIPE_LENGTH);
  return { ...pipe, pages: libc.fcntl(pipe.in, F_GETPIPE_SZ, 0) / PAGE };
}

/** Whether all fits: a pipe holds pages, be they full or not. */
function hasRoom({ pages }: Pipe, length: number, parts: readonly FilePart[]): boolean {
  let needed = Math.ceil(length / PAGE);
  for (const { offset, length } of parts) needed += Math.ceil(((offset % PAGE) + length) / PAGE);
  return needed <= pages;
}
