import type { Socket } from 'node:net';
import type { Client } from '@grpc/grpc-js';
import { Metadata, status } from '@grpc/grpc-js';

/** A call under way. */
export interface Call {
  cancel(): void;
}

/** A call that any server answers, if only by saying that it does not know it. */
const HARMLESS = '/grpc.health.v1.Health/Check';
const asIs = (bytes: Buffer) => bytes;
/** What is said of a call that has had no answer. */
const UNANSWERED: readonly (number | undefined)[] = [status.UNAVAILABLE, status.CANCELLED];

/** One connection to a peer, the calls under way on it, and how much has come. */
export class Connection {
  readonly client: Client;
  /** One that its user left would keep the connection, and the process, for a while. */
  readonly #calls = new Set<Call>();
  /** Those that send much: as long as there are any, a peer may be silent because it has not got their bytes. */
  readonly #places = new Set<Call>();
  readonly #sockets = new Set<Socket>();
  /** Bytes that came through sockets which are closed. */
  #before = 0;
  /** When the latest probe was made, and the latest that has been answered. */
  #probedAt = 0;
  #answeredAt = 0;

  /** `dial` makes a client that tells of its sockets. */
  constructor(dial: (onSocket: (socket: Socket) => void) => Client) {
    this.client = dial((socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => {
        this.#sockets.delete(socket);
        this.#before += socket.bytesRead;
      });
    });
  }

  begin(call: Call, sends: boolean): void {
    this.#calls.add(call);
    if (sends) this.#places.add(call);
  }

  end(call: Call): void {
    this.#calls.delete(call);
    this.#places.delete(call);
  }

  /** Whether an answer is to be expected. */
  get isWaiting(): boolean {
    return this.#calls.size > 0 && this.#places.size === 0;
  }

  /** Bytes that have come, of whatever kind. */
  get received(): number {
    let sum = this.#before;
    for (const { bytesRead } of this.#sockets) sum += bytesRead;
    return sum;
  }

  /**
   * Makes a call that has to be answered at once. It is no HTTP/2 ping: gRPC servers in Go and C++ throw out whoever
   * sends more than two of those in five minutes in which they had no data to send.
   */
  probe(): void {
    const begun = performance.now();
    this.#probedAt = begun;
    this.client.makeUnaryRequest(HARMLESS, asIs, asIs, Buffer.alloc(0), new Metadata(), {}, (error) => {
      if (!UNANSWERED.includes(error?.code)) this.#answeredAt = Math.max(this.#answeredAt, begun);
    });
  }

  hasProbedSince(time: number): boolean {
    return this.#probedAt >= time;
  }

  /** Whether a probe that was made since a time has been answered: then it is not the line that keeps an older answer. */
  hasAnsweredSince(time: number): boolean {
    return this.#answeredAt >= time;
  }

  /** Resolves when calls can be made on it. Rejects after so long, in milliseconds. */
  ready(milliseconds: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.client.waitForReady(Date.now() + milliseconds, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Takes no more calls; those under way go on. */
  retire(): void {
    this.client.close();
  }

  /** Gives up its calls, and lets go of it. */
  close(): void {
    for (const call of this.#calls) call.cancel();
    this.client.close();
  }

  /** Breaks it: its calls fail with UNAVAILABLE, as if the peer had gone. */
  break(): void {
    this.client.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
