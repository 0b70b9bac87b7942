import type { ServerHttp2Session } from 'node:http2';

/** What a client may send of each call before it has to wait for word from us, at least and at most, in bytes. */
const LEAST = 64 << 10;
const MOST = 8 << 20;
/** Of all calls of a connection that send. */
const MOST_OF_ALL = 8 << 20;

/**
 * How much a client may send ahead in each call of a connection. It begins with little, doubles when that much
 * has been read, as a long line needs, and becomes less as more calls send at once: what waits to be read lies in memory.
 */
export class ReceiveWindow {
  readonly #session: ServerHttp2Session;
  #size = LEAST;
  #read = 0;
  #sending = 0;

  constructor(session: ServerHttp2Session) {
    this.#session = session;
    session.settings({ initialWindowSize: LEAST });
    // Node lets the client go on as to the connection, whether we read or not.
    session.setLocalWindowSize(MOST_OF_ALL);
  }

  /** A call begins, or ends, to wait for what the client sends. */
  change(calls: 1 | -1): void {
    this.#sending += calls;
    if (this.#size > LEAST && this.#size * this.#sending > MOST_OF_ALL) this.#set(this.#size / 2);
  }

  /** So many bytes have been read. */
  read(bytes: number): void {
    this.#read += bytes;
    if (this.#read < this.#size) return;
    this.#read = 0;
    const next = this.#size * 2;
    if (next <= MOST && next * this.#sending <= MOST_OF_ALL) this.#set(next);
  }

  #set(size: number): void {
    if (this.#session.destroyed || this.#session.closed) return;
    this.#size = size;
    this.#read = 0;
    this.#session.settings({ initialWindowSize: size });
  }
}
