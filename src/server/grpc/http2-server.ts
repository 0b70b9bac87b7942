import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { constants, createServer } from 'node:http2';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { SIGNS_HEADER } from '../../proto/grpc/call-watch.ts';
import { Connection } from '../connection.ts';
import { tellOfHttp2 } from '../refused-connections.ts';
import { ReceiveWindow } from './receive-window.ts';

/** How often signs of life are given to calls that wait, in milliseconds: seldom, since proxies may not expect them. */
const SIGNS_MS = 40_000;
const MAX_STREAMS_PER_CONNECTION = 100;
/** A connection is asked whether it is still there, and is given up without an answer: after so many milliseconds each. */
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 20_000;

/** Who makes a call. */
export interface Caller {
  readonly headers: IncomingHttpHeaders;
  /** Over which they do. */
  readonly connection: Connection | undefined;
  /** Whether they may do everything, if nobody else is behind them. */
  readonly isTrusted: boolean;
  /** Who has one share. */
  readonly peer: string;
  readonly window: ReceiveWindow;
}

/** Speaks HTTP/2 on connections, and hands on what is asked for. What is thrown out of an event is its connection's fault. */
export class Http2Connections {
  readonly #onCall: (stream: ServerHttp2Stream, caller: Caller) => void;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #server: Http2Server;

  constructor(onCall: (stream: ServerHttp2Stream, caller: Caller) => void) {
    this.#onCall = onCall;
    this.#server = createServer({ settings: { maxConcurrentStreams: MAX_STREAMS_PER_CONNECTION } });
    this.#server.on('session', (session) => this.#begin(session));
    tellOfHttp2(this.#server);
  }

  /** Takes a connection on which HTTP/2 is spoken, as it is or within TLS. */
  take(socket: Socket): void {
    this.#server.emit('connection', socket);
  }

  /** Takes no more calls; those that run may end. */
  drain(): void {
    for (const session of this.#sessions) session.close();
  }

  #begin(session: ServerHttp2Session): void {
    endBetweenReads(session);
    this.#sessions.add(session);
    const window = new ReceiveWindow(session);
    const stopAsking = keepAlive(session);
    const signs = new Signs();
    session.once('close', () => {
      this.#sessions.delete(session);
      stopAsking();
      signs.stop();
    });
    session.on('error', () => {});
    const certificate = (session.socket as TLSSocket).getPeerCertificate?.().fingerprint256;
    session.on('stream', (stream, headers) => {
      const connection = Connection.current;
      connection?.own(stream);
      stream.on('error', () => {});
      if (SIGNS_HEADER in headers) signs.add(stream);
      const peer = certificate ?? connection?.peer ?? 'nobody';
      this.#onCall(stream, { headers, connection, isTrusted: connection?.isTrusted ?? false, peer, window });
    });
  }
}

/** Asks a client now and then whether it is there; gives what ends that. */
function keepAlive(session: ServerHttp2Session): () => void {
  let answer: NodeJS.Timeout | undefined;
  const ask = () => {
    if (answer || session.destroyed) return;
    answer = setTimeout(
      () => session.destroy(undefined, constants.NGHTTP2_CANCEL),
      KEEPALIVE_TIMEOUT_MS,
    ).unref();
    const isSent = session.ping(() => {
      clearTimeout(answer);
      answer = undefined;
    });
    if (!isSent) session.destroy();
  };
  const timer = setInterval(ask, KEEPALIVE_MS).unref();
  return () => {
    clearInterval(timer);
    clearTimeout(answer);
  };
}

/**
 * Has a session end only when the frames that came together have been read. Node ends it in the middle of them when
 * the client says GOAWAY or breaks the protocol, and its HTTP/2 library then reads freed memory or aborts the
 * process: before Node 22.22, at a few frames' bidding (CVE-2026-27135, nodejs/node#64113).
 */
function endBetweenReads(session: ServerHttp2Session): void {
  const { close, destroy } = session;
  session.close = (done) => void setImmediate(() => close.call(session, done));
  session.destroy = (...reason) => void setImmediate(() => destroy.apply(session, reason));
}

/**
 * Gives signs of life to those of a connection who ask for them and wait for an answer: what is worked on, be it a check of
 * all contents or a slow bucket, may take longer than anybody should be silent.
 */
class Signs {
  readonly #streams = new Set<ServerHttp2Stream>();
  #timer: NodeJS.Timeout | undefined;

  add(stream: ServerHttp2Stream): void {
    this.#streams.add(stream);
    stream.once('close', () => {
      this.#streams.delete(stream);
      if (this.#streams.size === 0) this.stop();
    });
    this.#timer ??= setInterval(() => this.#give(), SIGNS_MS).unref();
  }

  #give(): void {
    for (const stream of this.#streams)
      if (!stream.headersSent && !stream.destroyed) stream.additionalHeaders({ ':status': 102 });
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
