import { Socket } from 'node:net';
import { duplicate } from '../../util/system/unix-socket.ts';

/** What is read at once, into memory that all connections share: it is copied before the next read. */
const BUFFER = Buffer.allocUnsafe(64 << 10);

/**
 * What comes over a connection, part by part. Whoever waits for it goes on at once, and nothing is read ahead of that but
 * one part. A stream of Node's takes 64 KiB for each, and several turns.
 */
export class SocketParts implements AsyncIterator<Uint8Array> {
  /** The connection, to be written to. */
  readonly socket: Socket;
  readonly #come: Buffer[] = [];
  #waiting: ((part: IteratorResult<Uint8Array, undefined>) => void) | undefined;
  #isPaused = false;
  #isOver = false;

  /** `accepted` is paused, and stays so: it ends with `socket`, and the other way round. */
  constructor(accepted: Socket) {
    const callback = (length: number) => this.#take(Buffer.from(BUFFER.subarray(0, length)));
    this.socket = new Socket({ fd: duplicate(accepted), onread: { buffer: BUFFER, callback } });
    this.socket.once('close', () => accepted.destroy());
    accepted.once('close', () => this.socket.destroy());
    for (const end of ['end', 'close']) this.socket.once(end, () => this.#end());
  }

  /** One caller may wait at a time. */
  next(): Promise<IteratorResult<Uint8Array, undefined>> {
    return new Promise((resolve) => {
      const part = this.#come.shift();
      if (part) return resolve({ value: part, done: false });
      if (this.#isOver) return resolve({ value: undefined, done: true });
      this.#waiting = resolve;
      if (this.#isPaused) this.socket.resume();
      this.#isPaused = false;
    });
  }

  /** Tells whether to read on. */
  #take(part: Buffer): boolean {
    const isWanted = this.#waiting !== undefined;
    if (isWanted) this.#answer({ value: part, done: false });
    else this.#come.push(part);
    this.#isPaused = !isWanted;
    return isWanted;
  }

  #end(): void {
    this.#isOver = true;
    this.#answer({ value: undefined, done: true });
  }

  #answer(part: IteratorResult<Uint8Array, undefined>): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.(part);
  }
}
