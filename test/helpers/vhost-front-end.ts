import { closeSync, ftruncateSync, readSync } from 'node:fs';
import koffi from 'koffi';
import { HEADER_LENGTH, NO_DESCRIPTOR } from '../../src/fuse/vhost/protocol.ts';
import { errno, errnoName, libc, memoryAt } from '../../src/util/system/libc.ts';
import { socketAddress } from '../../src/util/system/unix-socket.ts';

const library = koffi.load('libc.so.6');
const calls = {
  connect: library.func('int connect(int fd, const void *address, uint32_t length)'),
  sendmsg: library.func('int64_t sendmsg(int fd, const void *message, int flags)'),
  memfd_create: library.func('int memfd_create(const char *name, unsigned int flags)'),
};
const MSG_NOSIGNAL = 0x4000;
const O_NONBLOCK = 0o4000;
const EAGAIN = 11;

/** Where a buffer lies. It is kept by whoever asks. */
function addressOf(buffer: Buffer): number {
  return Number(koffi.address(buffer));
}

function checked(result: number, what: string): number {
  if (result < 0) throw new Error(`${what}: ${errnoName(errno())}`);
  return result;
}

/** A file in memory, for a guest's memory. */
export function memoryFile(length: number): number {
  const fd = checked(calls.memfd_create('guest', 0), 'memfd_create');
  ftruncateSync(fd, length);
  return fd;
}

/** Maps a file that `memoryFile` made, until the end. */
export function mapFile(fd: number, length: number): Buffer {
  return Buffer.from(memoryAt(checked(libc.mmap(0, length, 3, 1, fd, 0), 'mmap'), length));
}

/** Whether an eventfd has been raised since the last time. */
export function wasRaised(eventfd: number): boolean {
  try {
    return readSync(eventfd, Buffer.alloc(8)) === 8;
  } catch {
    return false;
  }
}

export const words = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value, 4 * i);
  return bytes;
};

export const longs = (...values: (number | bigint)[]): Buffer => {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), 8 * i);
  return bytes;
};

/** The front end's side of a vhost-user connection: what QEMU does, without a virtual machine. */
export class VhostFrontEnd {
  readonly #fd: number;

  constructor(path: string) {
    const address = socketAddress(path);
    this.#fd = checked(libc.socket(1, 1, 0), 'socket');
    checked(calls.connect(this.#fd, address, address.length), 'connect');
    libc.fcntl(this.#fd, 4, O_NONBLOCK);
  }

  /** Sends bytes, with descriptors that stay ours. */
  sendRaw(bytes: Buffer, descriptors: readonly number[] = []): void {
    const vector = Buffer.concat([longs(addressOf(bytes), bytes.length)]);
    const control = Buffer.alloc(16 + 8 * Math.ceil(descriptors.length / 2));
    control.writeUInt32LE(16 + 4 * descriptors.length, 0);
    control.writeUInt32LE(1, 8);
    control.writeUInt32LE(1, 12);
    for (const [i, fd] of descriptors.entries()) control.writeInt32LE(fd, 16 + 4 * i);
    const hasControl = descriptors.length > 0;
    const message = longs(
      0,
      0,
      addressOf(vector),
      1,
      hasControl ? addressOf(control) : 0,
      hasControl ? control.length : 0,
      0,
    );
    checked(Number(calls.sendmsg(this.#fd, message, MSG_NOSIGNAL)), 'sendmsg');
  }

  send(
    request: number,
    payload: Buffer = Buffer.alloc(0),
    descriptors: readonly number[] = [],
    flags = 1,
  ): void {
    this.sendRaw(Buffer.concat([words(request, flags, payload.length), payload]), descriptors);
  }

  /** Sends a message and gives the payload of its reply. */
  async ask(request: number, payload?: Buffer, descriptors?: readonly number[], flags = 1): Promise<Buffer> {
    this.send(request, payload, descriptors, flags);
    const header = await this.#receive(HEADER_LENGTH);
    if (header.readUInt32LE(0) !== request || header.readUInt32LE(4) !== 5) {
      throw new Error(`the reply to ${request} begins with ${header.toString('hex')}`);
    }
    return this.#receive(header.readUInt32LE(8));
  }

  async #receive(length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length);
    for (let filled = 0; filled < length; ) {
      const part = libc.read(this.#fd, addressOf(bytes) + filled, length - filled);
      if (part > 0) filled += part;
      else if (part === 0) throw new Error('the connection was ended');
      else if (errno() === EAGAIN) await new Promise((resolve) => setTimeout(resolve, 1));
      else throw new Error(`read: ${errnoName(errno())}`);
    }
    return bytes;
  }

  /** Resolves when the other side has ended the connection. */
  async ended(): Promise<void> {
    try {
      for (;;) await this.#receive(1);
    } catch {
      // That is what we wait for.
    }
  }

  /** Sends an eventfd of a queue, or none. */
  sendEventfd(request: number, queue: number, eventfd: number | undefined): void {
    if (eventfd === undefined) this.send(request, longs(queue | NO_DESCRIPTOR));
    else this.send(request, longs(queue), [eventfd]);
  }

  close(): void {
    closeSync(this.#fd);
  }
}
