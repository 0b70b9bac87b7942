import { CallBuffer } from './call-buffer.ts';
import { libc } from './libc.ts';

const POLLIN = 1;
const POLLOUT = 4;
/** `struct pollfd`: descriptor i32, wanted i16, happened i16. */
const ENTRY_LENGTH = 8;

/** Descriptors that a thread waits for, each in a slot of its own. A slot without one has a negative number. */
export class PollSet {
  readonly #entries: CallBuffer;

  constructor(slots: number) {
    this.#entries = new CallBuffer(slots * ENTRY_LENGTH);
    for (let slot = 0; slot < slots; slot++) this.watch(slot, -1);
  }

  /** Waits from now on until a descriptor can be read, or has failed. */
  watch(slot: number, fd: number): void {
    this.#entries.bytes.writeInt32LE(fd, slot * ENTRY_LENGTH);
    this.#entries.bytes.writeInt32LE(POLLIN, slot * ENTRY_LENGTH + 4);
  }

  /** Waits so long, in milliseconds (-1: for ever), for the first `slots` slots; true when something has happened. */
  wait(slots: number, milliseconds: number): boolean {
    return libc.poll(this.#entries.address, slots, milliseconds) > 0;
  }

  /** Whether something has happened at a slot: data, the end, or a failure. */
  happened(slot: number): boolean {
    return this.#events(slot) !== 0;
  }

  /** Whether there is something to read at a slot. */
  readable(slot: number): boolean {
    return (this.#events(slot) & POLLIN) !== 0;
  }

  #events(slot: number): number {
    return this.#entries.bytes.readInt16LE(slot * ENTRY_LENGTH + 6);
  }
}

/** Whether a few hundred bytes can be written to a descriptor without waiting, or whether that fails at once. */
export function takesMore(fd: number): boolean {
  const { bytes, address } = new CallBuffer(ENTRY_LENGTH);
  bytes.writeInt32LE(fd, 0);
  bytes.writeInt32LE(POLLOUT, 4);
  return libc.poll(address, 1, 0) > 0;
}
