import { closeSync } from 'node:fs';
import { ERRNO } from '../../fs/file-system.ts';
import { invalid } from '../../util/errors.ts';
import { CallBuffer } from '../../util/system/call-buffer.ts';
import { errno, errnoName, libc } from '../../util/system/libc.ts';
import { receiveMessage } from '../../util/system/unix-socket.ts';
import { FLAG, HEADER_LENGTH, MAX_PAYLOAD } from './protocol.ts';

const EAGAIN = 11;

/** A message of the front end. */
export interface Message {
  readonly request: number;
  readonly needsReply: boolean;
  readonly payload: Buffer;
  /** Descriptors that came with it. Whoever takes one removes it from here; the rest are closed. */
  readonly descriptors: number[];
}

/** The connection of a front end, which does not block. */
export class Connection {
  readonly fd: number;
  readonly #buffer = new CallBuffer(HEADER_LENGTH + MAX_PAYLOAD);
  /** Bytes of the message under way that have arrived. */
  #filled = 0;
  #descriptors: number[] = [];

  constructor(fd: number) {
    this.fd = fd;
  }

  /**
   * Takes messages as long as whole ones are there; false when the front end has gone. Throws INVALID_ARGUMENT
   * for what is no message, and whatever `take` throws.
   */
  receive(take: (message: Message) => void): boolean {
    for (;;) {
      // No further than this message: the descriptors of the next are its own.
      const wanted = this.#filled < HEADER_LENGTH ? HEADER_LENGTH : HEADER_LENGTH + this.#payloadLength();
      if (this.#filled < wanted) {
        const length = receiveMessage(this.fd, this.#buffer, this.#filled, wanted, this.#descriptors);
        if (length === 0) return false;
        if (length < 0) {
          const error = errno();
          if (error === EAGAIN || error === ERRNO.EINTR) return true;
          throw invalid(`receiving from the front end failed: ${errnoName(error)}`);
        }
        this.#filled += length;
        continue;
      }
      this.#deliver(take);
    }
  }

  #payloadLength(): number {
    const length = this.#buffer.bytes.readUInt32LE(8);
    if (length > MAX_PAYLOAD) throw invalid(`a message of ${length} bytes`);
    return length;
  }

  #deliver(take: (message: Message) => void): void {
    const flags = this.#buffer.bytes.readUInt32LE(4);
    if ((flags & FLAG.VERSION_MASK) !== FLAG.VERSION) throw invalid('an unknown version of vhost-user');
    const descriptors = this.#descriptors.splice(0);
    try {
      take({
        request: this.#buffer.bytes.readUInt32LE(0),
        needsReply: (flags & FLAG.NEED_REPLY) !== 0,
        payload: this.#buffer.bytes.subarray(HEADER_LENGTH, this.#filled),
        descriptors,
      });
    } finally {
      this.#filled = 0;
      for (const fd of descriptors) closeSync(fd);
    }
  }

  reply(request: number, payload: Buffer): void {
    const { bytes, address } = new CallBuffer(HEADER_LENGTH + payload.length);
    bytes.writeUInt32LE(request, 0);
    bytes.writeUInt32LE(FLAG.VERSION | FLAG.REPLY, 4);
    bytes.writeUInt32LE(payload.length, 8);
    payload.copy(bytes, HEADER_LENGTH);
    // A few bytes always fit, but for a front end that takes none of its replies.
    if (libc.write(this.fd, address, bytes.length) !== bytes.length) {
      throw invalid(`replying to the front end failed: ${errnoName(errno())}`);
    }
  }

  close(): void {
    for (const fd of this.#descriptors) closeSync(fd);
    closeSync(this.fd);
  }
}
