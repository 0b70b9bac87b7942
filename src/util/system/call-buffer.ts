import { koffi } from './libc.ts';

/**
 * Memory that system calls reach by its address, which is a number to them. It does not move, and lasts as long as this
 * object: whoever hands out the address keeps the object until the kernel is done with it.
 */
export class CallBuffer {
  readonly bytes: Buffer;
  readonly address: number;

  /** `length` in bytes; what they are is not defined. */
  constructor(length: number) {
    // Not a part of Node's pool, and outside of the heap, where the garbage collector moves nothing.
    this.bytes = Buffer.allocUnsafeSlow(length);
    this.address = Number(koffi().address(this.bytes));
  }
}
