import type { Socket } from 'node:net';
import { buildConnector, EnvHttpProxyAgent, Pool as OriginPool } from 'undici';
import type { Pool } from '../../util/async/pools.ts';

const CONNECTIONS = 25;

/** Connections to a web server, or to the proxy in front of it that the environment names. */
export class HttpPool implements Pool {
  readonly agent: EnvHttpProxyAgent;
  readonly #sockets = new Set<Socket>();
  /** Bytes that came through sockets which are closed. */
  #before = 0;

  /**
   * A server may take `idleMs` milliseconds to be reached, to answer, and from one part to the next. `ca` gives an
   * authority (PEM) that alone is trusted.
   */
  constructor(idleMs: number, ca?: () => Buffer) {
    const tls = () => ({ timeout: idleMs, ...(ca && { ca: ca() }) });
    const limits = { connections: CONNECTIONS, headersTimeout: idleMs, bodyTimeout: idleMs };
    const factory = (origin: string | URL, options: object) => {
      const { connect } = options as { connect: buildConnector.connector };
      return new OriginPool(origin, { ...options, ...limits, connect: this.#watching(connect) });
    };
    const proxy = process.env.all_proxy ?? process.env.ALL_PROXY;
    this.agent = new EnvHttpProxyAgent({
      ...limits,
      // As it is now, for each connection.
      connect: (options, callback) => buildConnector(tls())(options, callback),
      // As curl does, and so Nix: one in capitals may be set by whoever sends a request to a CGI program.
      httpProxy: process.env.http_proxy ?? proxy ?? '',
      httpsProxy: process.env.https_proxy ?? process.env.HTTPS_PROXY ?? proxy ?? '',
      requestTls: tls(),
      proxyTls: { timeout: idleMs },
      factory,
      clientFactory: factory,
    });
  }

  #watching(connect: buildConnector.connector): buildConnector.connector {
    return (options, callback) =>
      connect(options, (...made) => {
        if (made[1]) this.#watch(made[1]);
        callback(...made);
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
