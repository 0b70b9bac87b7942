import { randomBytes } from 'node:crypto';
import type { Http2Server, Http2Session } from 'node:http2';
import { Server } from '@grpc/grpc-js';
import { Connection } from '../connection.ts';

/** The method by which grpc-js makes its HTTP/2 servers; its types do not show it. */
interface Internals {
  createHttp2Server(...args: unknown[]): Http2Server;
}

/**
 * Header that tells a call's handler whether the other end of its connection is on this machine. grpc-js shows the
 * connection to nobody; the name is a secret, and what a client sends under it is replaced.
 */
export const LOCAL_HEADER: string = `x-local-${randomBytes(16).toString('hex')}`;

/**
 * Makes a gRPC server whose connections, and each of their calls, take `window` bytes before the sender has to
 * wait for word from us: grpc-js reads its option for that in clients only, and an upload waits after 64 KiB. What is
 * thrown out of a call's events is its connection's fault.
 */
export function http2Server(window: number, options: ConstructorParameters<typeof Server>[0]): Server {
  const server = new Server(options);
  const internals = server as unknown as Internals;
  const create = internals.createHttp2Server.bind(server);
  internals.createHttp2Server = (...args) =>
    create(...args).on('session', (session) => {
      endBetweenReads(session);
      session.settings({ initialWindowSize: window });
      session.setLocalWindowSize(window);
      // Before grpc-js sees the call.
      session.prependListener('stream', (stream, headers) => {
        const connection = Connection.current;
        connection?.own(stream);
        headers[LOCAL_HEADER] = String(connection?.isLocal ?? false);
      });
    });
  return server;
}

/**
 * Has a session end only when the frames that came together have been read. Node ends it in the middle of them when
 * the client says GOAWAY or breaks the protocol, and its HTTP/2 library then reads freed memory or aborts the
 * process: before Node 22.22, at a few frames' bidding (CVE-2026-27135, nodejs/node#64113).
 */
function endBetweenReads(session: Http2Session): void {
  const { close, destroy } = session;
  session.close = (done) => void setImmediate(() => close.call(session, done));
  session.destroy = (...reason) => void setImmediate(() => destroy.apply(session, reason));
}
