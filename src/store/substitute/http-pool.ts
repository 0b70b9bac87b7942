import type { Socket } from 'node:net';
import { Agent, buildConnector } from 'undici';
import type { Pool } from '../../util/async/pools.ts';

const CONNECTIONS = 25;

/** Connections to a web server. */
export class HttpPool implements Pool {
  readonly agent: Agent;
  readonly #sockets = new Set<Socket>();
  /** Bytes that came through sockets which are closed. */
  #before = 0;

  /** A server may take `idleMs` milliseconds to be reached, to answer, and from one part to the next. */
  constructor(idleMs: number) {
    const connect = buildConnector({ timeout: idleMs });
    this.agent = new Agent({
      connections: CONNECTIONS,
      connect: (options, callback) =>
        connect(options, (...made) => {
          if (made[1]) this.#watch(made[1]);
          callback(...made);
        }),
      headersTimeout: idleMs,
      bodyTimeout: idleMs,
    });
  }

  #watch(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#before += socket.bytesRead;
    });
  }

  get received(): number {
    let sum = this.#before;
    for (const { bytesRead } of this.#sockets) sum += bytesRead;
    return sum;
  }

  retire(): void {
    this.agent.close().catch(() => {});
  }

  destroy(): void {
    this.agent.destroy().catch(() => {});
  }
}
