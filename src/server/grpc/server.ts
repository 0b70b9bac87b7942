import { constants } from 'node:http2';
import type { Socket } from 'node:net';
import { createServer } from 'node:net';
import { BLOB, BYTE_STREAM, CAS, DIALECTS, methodPath } from '../../proto/grpc/methods.ts';
import { nameRottenPaths } from '../../store/keeping/rotten-paths.ts';
import type { Store } from '../../store/services.ts';
import { ServingSigner } from '../../store/trust/serving-signer.ts';
import { StoreError } from '../../util/errors.ts';
import type { ListenAddress, SocketOwnership } from '../../util/listen-address.ts';
import { isForwarded } from '../access/forwarded.ts';
import type { AccessRule } from '../access/rule.ts';
import { EVERYTHING } from '../access/rule.ts';
import type { Right } from '../access/tokens.ts';
import { Connection } from '../connection.ts';
import { answeringBy } from '../http/answer.ts';
import { bucketRoutes } from '../http/bucket-routes.ts';
import { HttpCounts } from '../http/metrics.ts';
import { httpOver } from '../http/server.ts';
import type { RunningServer } from '../listen.ts';
import { closeListener, grace, listen } from '../listen.ts';
import { ConnectionCounts } from '../metrics/connections.ts';
import { RequestCounts, requestMetrics } from '../metrics/requests.ts';
import { Budget } from '../shares/budget.ts';
import { FairTurns } from '../shares/fair-turns.ts';
import type { TlsFiles } from '../tls-files.ts';
import { Call } from './call.ts';
import type { Permit, ServedMethod } from './calls.ts';
import { answer } from './calls.ts';
import { Health } from './health.ts';
import type { Caller } from './http2-server.ts';
import { Http2Connections } from './http2-server.ts';
import { Protocols } from './protocols.ts';
import { Reflection } from './reflection.ts';
import { implementations } from './services.ts';

/** Methods that put something into the store, or let somebody leave it out of an upload. */
const UPLOADS = [
  BLOB.put,
  CAS.splice,
  CAS.findMissing,
  CAS.batchUpdate,
  BYTE_STREAM.write,
  BYTE_STREAM.query,
].map(({ name }) => name);
/** Beyond so many, or so many that have never asked for anything, the oldest of those makes room for a new one. */
const MAX_CONNECTIONS = 2048;
const MAX_SILENT = 256;
/** How long running calls may take when the server stops, in milliseconds. */
const GRACE_MS = 5000;
/** How long connections have to close when no call is running. */
const IDLE_GRACE_MS = 1000;

export interface GrpcServerOptions {
  readonly store: Store;
  readonly listen: ListenAddress;
  readonly ownership: SocketOwnership;
  /** Gives what a new connection is served with. */
  readonly tls?: (() => TlsFiles) | undefined;
  readonly access: AccessRule;
  /** What requests and answers may take, in bytes; see `Budget`. */
  readonly maxMemory?: number | undefined;
}

/**
 * Serves a store over gRPC, under both package names, with health and reflection; and over HTTP/1.1 on the same listener, as
 * the objects of a bucket, to be read.
 */
export async function serveGrpc(options: GrpcServerOptions): Promise<RunningServer> {
  if (options.store.local) nameRottenPaths(options.store.local);
  const { access } = options;
  const hasCertificate = options.tls?.().clientCa !== undefined;
  const permit = (right: Right) => (caller: Caller) => {
    const { headers } = caller;
    const isTrusted = caller.isTrusted && !isForwarded((name) => headers[name] !== undefined);
    return access.check({ isTrusted, hasCertificate, authorization: headers.authorization }, right);
  };
  const reflection = Reflection.load();
  const health = new Health(reflection.services);
  const methods = new Map<string, FoundMethod>();
  for (const { method, work } of implementations(options.store)) {
    const right = UPLOADS.includes(method.name) ? 'write' : 'read';
    for (const dialect of DIALECTS) {
      const path = methodPath(dialect, method);
      const name = methodName(path);
      methods.set(path, { name, method: { path, shape: method, work }, permit: permit(right) });
    }
  }
  for (const method of [...health.methods(), ...reflection.methods()]) {
    methods.set(method.path, { name: methodName(method.path), method, permit: anybody });
  }

  const budget = new Budget(options.maxMemory);
  const turns = new FairTurns();
  let running = 0;
  const counts = new RequestCounts();
  const httpCounts = new HttpCounts();
  const open = new ConnectionCounts<Connection>();
  const asked = (connection: Connection) => {
    silent.delete(connection);
    open.asked(connection);
  };
  const objects = bucketRoutes(options.store, new ServingSigner(options.store, []));
  const readers = httpOver({
    handle: answeringBy(objects, access, (exchange) => {
      asked(Connection.current!);
      running++;
      const answered = httpCounts.begin(exchange);
      return (route) => {
        running--;
        answered(route);
      };
    }),
    tls: options.tls,
    budget,
    turns,
    connections: new ConnectionCounts(),
  });
  const silent = new Map<Connection, Socket>();
  const connections = new Http2Connections((stream, caller) => {
    if (caller.connection) asked(caller.connection);
    const { 'content-type': type, ':path': path, ':method': method } = caller.headers;
    if (!type?.startsWith('application/grpc')) {
      if (stream.destroyed || stream.closed) return;
      if (method === 'GET' || method === 'HEAD') stream.close(constants.NGHTTP2_HTTP_1_1_REQUIRED);
      else stream.respond({ ':status': 415 }, { endStream: true });
      return;
    }
    const call = new Call(stream, caller, budget);
    const found = methods.get(path ?? '');
    if (!found) return call.fail(new StoreError('UNIMPLEMENTED', `there is no method ${path} here`));
    running++;
    const begun = counts.underWay.begin();
    void answer(call, found.method, found.permit, turns).finally(() => {
      running--;
      counts.sent += call.sent;
      counts.received += call.received;
      counts.answered(begun, found.name, call.failure);
    });
  });
  const protocols = new Protocols(options.tls, {
    http2: (socket) => connections.take(socket),
    http1: (socket) => void readers.emit('connection', socket),
  });

  const sockets = new Set<Socket>();
  // One at each turn of the event loop: what a connection takes to begin would keep out those that have.
  const arriving: (() => void)[] = [];
  const takeNext = () => {
    arriving.shift()!();
    if (arriving.length > 0) setImmediate(takeNext);
  };
  const accept = (socket: Socket) => {
    const connection = Connection.current!;
    if (sockets.size >= MAX_CONNECTIONS || silent.size >= MAX_SILENT) {
      const [oldest = socket] = silent.values();
      oldest.destroy();
    }
    sockets.add(socket);
    silent.set(connection, socket);
    open.opened(connection, socket);
    socket.once('close', () => {
      sockets.delete(socket);
      silent.delete(connection);
    });
    socket.on('error', () => {});
    arriving.push(() => connection.begin(() => socket.destroyed || protocols.take(socket)));
    if (arriving.length === 1) setImmediate(takeNext);
  };
  const make = () => createServer({ noDelay: true }, accept);
  const { servers, addresses } = await listen(options.listen, options.ownership, make);
  return {
    addresses,
    metrics: [...requestMetrics('grpc', 'method', counts), ...open.metrics('grpc'), ...httpCounts.metrics()],
    async stop(hurry) {
      health.stop();
      // A listener is closed when its last connection is.
      const closed = Promise.all(servers.map(closeListener));
      connections.drain();
      await grace(closed, running > 0 ? GRACE_MS : IDLE_GRACE_MS, hurry);
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** A method that is served. */
interface FoundMethod {
  /** Under whichever dialect, for the metrics. */
  readonly name: string;
  readonly method: ServedMethod;
  readonly permit: Permit;
}

/** Service and method, without the package. */
function methodName(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1);
}

/** Health and reflection are for all. */
const anybody: Permit = () => EVERYTHING;
