import { setMaxListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { messageOf } from '../../util/errors.ts';
import type { ListenAddress, SocketOwnership } from '../../util/listen-address.ts';
import { log } from '../../util/log.ts';
import { Connection } from '../connection.ts';
import type { RunningServer } from '../listen.ts';
import { closeListener, grace, listen } from '../listen.ts';
import { isForwarded } from '../upload-rule.ts';
import { Exchange } from './exchange.ts';

/** How long the head of a request may take, in milliseconds. */
const HEAD_MS = 30_000;
/** How long a connection may be without a request: longer than what proxies in front keep them for. */
const KEEP_ALIVE_MS = 120_000;
const MAX_CONNECTIONS = 4096;
/** How long requests may take when the server stops. */
const GRACE_MS = 5000;
/** Limits on draining the body of a request that has been answered, so that the client reads the answer. */
const LINGER_MS = 5000;
const LINGER_LENGTH = 16 << 20;

export interface HttpServerOptions {
  readonly listen: ListenAddress;
  readonly ownership: SocketOwnership;
  /** Answers a request. When it throws, the connection is cut. */
  readonly handle: (exchange: Exchange) => Promise<void>;
}

/** Serves HTTP. */
export async function serveHttp({
  listen: address,
  ownership,
  handle,
}: HttpServerOptions): Promise<RunningServer> {
  const make = () => {
    const server = createServer({
      noDelay: true,
      headersTimeout: HEAD_MS,
      // Uploads take as long as they take: what they must not do is stand still.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
    });
    server.maxConnections = MAX_CONNECTIONS;
    const connections = new WeakMap<Socket, { signal: AbortSignal; isLocal: boolean }>();
    server.on('connection', (socket) => {
      const gone = new AbortController();
      // One for each request that waits for its turn.
      setMaxListeners(0, gone.signal);
      socket.once('close', () => gone.abort());
      connections.set(socket, { signal: gone.signal, isLocal: Connection.current!.isLocal });
    });
    const answer = (awaitsContinue: boolean) => (request: IncomingMessage, response: ServerResponse) => {
      const { signal, isLocal } = connections.get(request.socket)!;
      response.once('finish', () => linger(request));
      const exchange = new Exchange(request, response, {
        signal,
        isLocal: isLocal && !isForwarded((name) => name in request.headers),
        awaitsContinue,
      });
      handle(exchange).catch((error) => {
        log.error('a request failed without an answer', { path: exchange.path, error: messageOf(error) });
        request.socket.destroy();
      });
    };
    server.on('request', answer(false));
    server.on('checkContinue', answer(true));
    return server;
  };
  const { servers, addresses } = await listen(address, ownership, make);
  return {
    addresses,
    async stop(hurry) {
      const closed = Promise.all(servers.map(closeListener));
      await grace(closed, GRACE_MS, hurry);
      for (const server of servers) server.closeAllConnections();
      await closed;
    },
  };
}

/** Takes what is left of a body that nobody wanted, for a while. */
function linger(request: IncomingMessage): void {
  if (request.readableEnded) return;
  const { socket } = request;
  let length = 0;
  const timer = setTimeout(() => socket.destroy(), LINGER_MS).unref();
  // Of a reader that has given up: no data would flow.
  request.removeAllListeners('readable');
  request.on('data', (part: Buffer) => {
    length += part.length;
    if (length > LINGER_LENGTH) socket.destroy();
  });
  request.once('end', () => clearTimeout(timer));
  request.resume();
}
