import { setMaxListeners } from 'node:events';
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { Server as SecureServer } from 'node:https';
import { createServer as createSecureServer } from 'node:https';
import type { Socket } from 'node:net';
import { messageOf } from '../../util/errors.ts';
import type { ListenAddress, SocketOwnership } from '../../util/listen-address.ts';
import { log } from '../../util/log.ts';
import { isForwarded } from '../access/forwarded.ts';
import { Connection } from '../connection.ts';
import type { RunningServer } from '../listen.ts';
import { closeListener, grace, listen } from '../listen.ts';
import { ConnectionCounts } from '../metrics/connections.ts';
import { tellOfHttp, tellOfTls } from '../refused-connections.ts';
import { Budget } from '../shares/budget.ts';
import { FairTurns } from '../shares/fair-turns.ts';
import type { TlsFiles } from '../tls-files.ts';
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

/** How requests are answered. */
export interface Answering {
  /** Answers a request. When it throws, the connection is cut. */
  readonly handle: (exchange: Exchange) => Promise<void>;
  /** Gives what a new connection is served with over TLS. */
  readonly tls?: (() => TlsFiles) | undefined;
  readonly budget: Budget;
  readonly turns: FairTurns;
  readonly connections: ConnectionCounts<Socket>;
}

export interface HttpServerOptions extends Pick<Answering, 'handle' | 'tls'> {
  readonly listen: ListenAddress;
  readonly ownership: SocketOwnership;
  /** What requests and answers may take, in bytes; see `Budget`. */
  readonly maxMemory?: number | undefined;
  readonly connections?: ConnectionCounts<Socket>;
}

const OPTIONS: ServerOptions = {
  noDelay: true,
  headersTimeout: HEAD_MS,
  // Uploads take as long as they take: what they must not do is stand still.
  requestTimeout: 0,
  keepAliveTimeout: KEEP_ALIVE_MS,
};

/** Serves HTTP. */
export async function serveHttp({
  listen: address,
  ownership,
  tls,
  handle,
  maxMemory,
  connections = new ConnectionCounts(),
}: HttpServerOptions): Promise<Omit<RunningServer, 'metrics'>> {
  const answering = { handle, tls, budget: new Budget(maxMemory), turns: new FairTurns(), connections };
  const make = () => {
    const server = tls ? secureServer(tls) : createServer(OPTIONS);
    server.maxConnections = MAX_CONNECTIONS;
    answerOn(server, tls ? 'secureConnection' : 'connection', answering);
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

/** A server for connections that others take: their sockets are emitted on it. It closes those on which nothing happens. */
export function httpOver(answering: Answering): Server {
  const server = createServer(OPTIONS);
  server.timeout = KEEP_ALIVE_MS;
  answerOn(server, 'connection', answering);
  return server;
}

/** Has a server answer what comes over its connections; `connected` is the event by which it tells of one. */
function answerOn(
  server: Server | SecureServer,
  connected: string,
  { handle, tls, budget, turns, connections }: Answering,
): void {
  const known = new WeakMap<Socket, { signal: AbortSignal; isTrusted: boolean; peer: string }>();
  const answering = new WeakSet<Socket>();
  tellOfHttp(server, (socket) => answering.has(socket));
  server.on(connected, (socket: Socket) => {
    const gone = new AbortController();
    // One for each request that waits for its turn.
    setMaxListeners(0, gone.signal);
    socket.once('close', () => gone.abort());
    const { isTrusted, peer } = Connection.current!;
    connections.opened(socket, socket);
    known.set(socket, { signal: gone.signal, isTrusted, peer });
  });
  const answer = (awaitsContinue: boolean) => (request: IncomingMessage, response: ServerResponse) => {
    const { signal, isTrusted, peer } = known.get(request.socket)!;
    connections.asked(request.socket);
    answering.add(request.socket);
    response.once('finish', () => {
      answering.delete(request.socket);
      linger(request);
    });
    const exchange = new Exchange(request, response, {
      signal,
      caller: {
        isTrusted: isTrusted && !isForwarded((name) => name in request.headers),
        hasCertificate: tls?.().clientCa !== undefined,
        authorization: request.headers.authorization,
      },
      awaitsContinue,
      share: budget.share(peer),
      turns,
    });
    handle(exchange).catch((error) => {
      log.error('a request failed without an answer', { path: exchange.path, error: messageOf(error) });
      request.socket.destroy();
    });
  };
  server.on('request', answer(false));
  server.on('checkContinue', answer(true));
}

/** A server over TLS. Connections that were taken with another certificate keep it. */
function secureServer(tls: () => TlsFiles): SecureServer {
  let current = tls();
  const options = ({ cert, key, clientCa }: TlsFiles) => ({ cert, key, ...(clientCa && { ca: clientCa }) });
  const server = createSecureServer({
    ...OPTIONS,
    ...options(current),
    requestCert: current.clientCa !== undefined,
    rejectUnauthorized: current.clientCa !== undefined,
  });
  server.prependListener('connection', () => {
    const files = tls();
    if (files === current) return;
    current = files;
    server.setSecureContext(options(files));
  });
  tellOfTls(server);
  return server;
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
