import type { Http2Server } from 'node:http2';
import type { Server as SecureServer } from 'node:https';
import type { Server, Socket } from 'node:net';
import type { TLSSocket, Server as TlsServer } from 'node:tls';
import { messageOf } from '../util/errors.ts';
import { log } from '../util/log.ts';

/** The same is told so often at most, in milliseconds: whoever tries all ports must not fill the log. */
const AGAIN_MS = 10_000;
/** The first byte of a TLS connection. */
const HANDSHAKE = 0x16;

const toldAt = new Map<string, number>();

function tell(why: string, from?: string): void {
  const now = performance.now();
  if (now - (toldAt.get(why) ?? Number.NEGATIVE_INFINITY) < AGAIN_MS) return;
  toldAt.set(why, now);
  log.warn(`a connection was refused: ${why}`, { from });
}

/** Tells in the log of those whose TLS does not come about, with what can be done. */
export function tellOfTls(server: TlsServer | SecureServer): void {
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
    tell(whyNoTls(error, socket), socket.remoteAddress);
  });
}

function whyNoTls(error: NodeJS.ErrnoException, socket: TLSSocket): string {
  if (socket.authorizationError)
    return `the client's certificate is not of the authority in --tls-client-ca (${socket.authorizationError})`;
  if (/did not return a certificate/i.test(error.message))
    return 'the client showed no certificate, and --tls-client-ca asks for one';
  if (/http request|wrong version number|packet length too long/i.test(error.message))
    return 'the client does not speak TLS: it should be given https, and not http';
  if (/alert/i.test(error.message)) return 'the client does not trust the certificate in --tls-cert';
  return `it broke off before it was encrypted (${error.code})`;
}

/** Tells in the log of those that do not speak HTTP/2 to a server in the clear. */
export function tellOfHttp2(server: Http2Server): void {
  server.on('sessionError', (error: Error) => {
    if (!/magic/i.test(messageOf(error))) return;
    tell('the client does not speak gRPC, or speaks it over TLS, which needs --tls-cert');
  });
}

/** What Node answers to those who do not speak HTTP; anything else is 400. */
const ANSWERS: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: '413 Payload Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** Tells in the log of those that speak TLS to an HTTP server. `isAnswering`: whether an answer has begun on a connection. */
export function tellOfHttp(server: Server, isAnswering: (socket: Socket) => boolean): void {
  server.on('clientError', (error: NodeJS.ErrnoException & { rawPacket?: Buffer }, socket: Socket) => {
    if (error.rawPacket?.[0] === HANDSHAKE)
      tell('the client speaks TLS: it should be given http, and not https', socket.remoteAddress);
    if (!socket.writable || isAnswering(socket)) socket.destroy();
    else
      socket.end(`HTTP/1.1 ${ANSWERS[error.code ?? ''] ?? '400 Bad Request'}\r\nConnection: close\r\n\r\n`);
  });
}
