import { CallBuffer } from './call-buffer.ts';
import { errno, errnoName, libc } from './libc.ts';

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;
const COUNT_LENGTH = 8;

const one = new CallBuffer(COUNT_LENGTH);
one.bytes.writeBigUInt64LE(1n, 0);
const taken = new CallBuffer(COUNT_LENGTH);

/** Makes an eventfd, non-blocking: a descriptor by which threads and processes wake each other. */
export function makeEventfd(): number {
  const fd = libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw new Error(`eventfd: ${errnoName(errno())}`);
  return fd;
}

/** Wakes whoever waits for the eventfd. */
export function raiseEventfd(fd: number): void {
  libc.write(fd, one.address, COUNT_LENGTH);
}

/** Takes in that it was raised, if it was. */
export function drainEventfd(fd: number): void {
  libc.read(fd, taken.address, COUNT_LENGTH);
}
