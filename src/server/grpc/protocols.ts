import type { Socket } from 'node:net';
import type { TLSSocket, Server as TlsServer } from 'node:tls';
import { createServer as createTlsServer } from 'node:tls';
import { Connection } from '../connection.ts';
import { tellOfTls } from '../refused-connections.ts';
import type { TlsFiles } from '../tls-files.ts';

/** Who has said nothing after this long, in milliseconds, is not going to. */
const FIRST_BYTE_MS = 30_000;
/** What GET and HEAD begin with. Nothing else is read over HTTP/1.1, and HTTP/2 begins with another one. */
const READS = [...Buffer.from('GH')];
const HTTP2 = 'h2';

/** Takes a connection that speaks a protocol. */
type Take = (socket: Socket) => void;

/** Tells of each connection whether HTTP/2 is spoken on it, which gRPC needs, or HTTP/1.1, and hands it on. */
export class Protocols {
  readonly #tls: (() => TlsFiles) | undefined;
  readonly #http2: Take;
  readonly #http1: Take;
  #made: { readonly tls: TlsFiles; readonly server: TlsServer } | undefined;

  /** `tls` gives what a new connection is served with. */
  constructor(tls: (() => TlsFiles) | undefined, { http2, http1 }: { http2: Take; http1: Take }) {
    this.#tls = tls;
    this.#http2 = http2;
    this.#http1 = http1;
  }

  take(socket: Socket): void {
    const tls = this.#tls?.();
    if (tls) this.#secure(tls).emit('connection', socket);
    else this.#takeByFirstByte(socket);
  }

  /** With the certificate of the moment; connections that were taken with another keep it. */
  #secure(tls: TlsFiles): TlsServer {
    if (this.#made?.tls !== tls) this.#made = { tls, server: this.#make(tls) };
    return this.#made.server;
  }

  #make({ cert, key, clientCa }: TlsFiles): TlsServer {
    const server = createTlsServer({
      cert,
      key,
      ALPNProtocols: [HTTP2, 'http/1.1'],
      ...(clientCa && { ca: clientCa, requestCert: true, rejectUnauthorized: true }),
    });
    server.on('secureConnection', (socket: TLSSocket) => {
      // Up to Node 22, a session that ends leaves its socket without a listener.
      socket.on('error', () => {});
      if (socket.alpnProtocol === HTTP2) this.#http2(socket);
      else this.#http1(socket);
    });
    tellOfTls(server);
    return server;
  }

  #takeByFirstByte(socket: Socket): void {
    const connection = Connection.current!;
    const late = setTimeout(() => socket.destroy(), FIRST_BYTE_MS).unref();
    socket.once('close', () => clearTimeout(late));
    const look = () => {
      const first: Buffer | null = socket.read(1);
      if (first === null) return void socket.once('readable', look);
      clearTimeout(late);
      socket.unshift(first);
      const take = READS.includes(first[0]!) ? this.#http1 : this.#http2;
      connection.begin(() => take(socket));
    };
    look();
  }
}
