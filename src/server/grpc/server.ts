import type { Socket } from 'node:net';
import { createServer } from 'node:net';
import type { ConnectionInjector, Server } from '@grpc/grpc-js';
import { ServerCredentials } from '@grpc/grpc-js';
import { DIALECTS, methodPath, TRANSPORT_OPTIONS } from '../../proto/grpc/methods.ts';
import { nameRottenPaths } from '../../store/keeping/rotten-paths.ts';
import type { Store } from '../../store/services.ts';
import type { ListenAddress, SocketOwnership } from '../../util/listen-address.ts';
import type { RunningServer } from '../listen.ts';
import { closeListener, grace, listen } from '../listen.ts';
import type { UploadRule } from '../upload-rule.ts';
import { isForwarded } from '../upload-rule.ts';
import { CallLimit } from './call-limit.ts';
import type { Caller, Permit, ServedMethod } from './calls.ts';
import { handler, reader } from './calls.ts';
import { Health } from './health.ts';
import { http2Server, LOCAL_HEADER } from './http2-server.ts';
import { Reflection } from './reflection.ts';
import { implementations } from './services.ts';

/** Calls under way at once, over all connections: of the store, and of health and reflection. */
const MAX_CALLS = 4096;
const MAX_STANDARD_CALLS = 1024;
const MAX_STREAMS_PER_CONNECTION = 1024;
/** How long running calls may take when the server stops, in milliseconds. */
const GRACE_MS = 5000;
/** How long connections have to close when no call is running. */
const IDLE_GRACE_MS = 1000;

export interface TlsFiles {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** When set, clients must show a certificate of this authority. */
  readonly clientCa?: Buffer | undefined;
}

export interface GrpcServerOptions {
  readonly store: Store;
  readonly listen: ListenAddress;
  readonly ownership: SocketOwnership;
  /** Gives what a new connection is served with. */
  readonly tls?: (() => TlsFiles) | undefined;
  readonly uploads: UploadRule;
}

/** Serves a store over gRPC, under both package names, with health and reflection. */
export async function serveGrpc(options: GrpcServerOptions): Promise<RunningServer> {
  const server = http2Server(TRANSPORT_OPTIONS['grpc-node.flow_control_window'], {
    ...TRANSPORT_OPTIONS,
    'grpc.max_concurrent_streams': MAX_STREAMS_PER_CONNECTION,
  });
  const limit = new CallLimit(MAX_CALLS);
  const uploads = new UploadPermit(options.uploads, options.tls?.().clientCa !== undefined);
  if (options.store.local) nameRottenPaths(options.store.local);
  addStore(server, options.store, limit, uploads);
  const reflection = Reflection.load();
  const health = new Health(reflection.services);
  const short = new CallLimit(MAX_STANDARD_CALLS);
  // Whoever watches does so for long, and must not keep out those who ask once.
  const watching = new CallLimit(MAX_STANDARD_CALLS);
  for (const served of [...health.methods(), ...reflection.methods()]) {
    add(server, served, served.shape.responseStream ? watching : short, anybody);
  }

  // Connections are accepted here and handed over: grpc-js cannot listen on all that we can.
  const injectors = new Injectors(server, options.tls);
  const sockets = new Set<Socket>();
  const accept = (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    injectors.now.injectConnection(socket);
  };
  const make = () => createServer({ noDelay: true }, accept);
  const { servers, addresses } = await listen(options.listen, options.ownership, make);
  return {
    addresses,
    async stop(hurry) {
      health.stop();
      // A listener is closed when its last connection is.
      const closed = Promise.all(servers.map(closeListener));
      for (const injector of injectors.all) injector.drain(GRACE_MS);
      await grace(closed, limit.running > 0 ? GRACE_MS : IDLE_GRACE_MS, hurry);
      for (const socket of sockets) socket.destroy();
      await closed;
      server.forceShutdown();
      for (const injector of injectors.all) injector.destroy();
    },
  };
}

/** Takes connections with the certificate of the moment; those that were taken with another keep it. */
class Injectors {
  readonly #server: Server;
  readonly #tls: (() => TlsFiles) | undefined;
  #made: { readonly tls: TlsFiles | undefined; readonly injector: ConnectionInjector } | undefined;
  readonly all: ConnectionInjector[] = [];

  constructor(server: Server, tls: (() => TlsFiles) | undefined) {
    this.#server = server;
    this.#tls = tls;
  }

  get now(): ConnectionInjector {
    const tls = this.#tls?.();
    if (!this.#made || this.#made.tls !== tls) {
      this.#made = { tls, injector: this.#server.createConnectionInjector(credentials(tls)) };
      this.all.push(this.#made.injector);
    }
    return this.#made.injector;
  }
}

function addStore(server: Server, store: Store, limit: CallLimit, uploads: UploadPermit): void {
  for (const { method, work } of implementations(store)) {
    const permit = method.name === 'Put' ? (caller: Caller) => uploads.check(caller) : anybody;
    for (const dialect of DIALECTS) {
      add(server, { path: methodPath(dialect, method), shape: method, work }, limit, permit);
    }
  }
}

function anybody(): void {}

function add(server: Server, { path, shape, work }: ServedMethod, limit: CallLimit, permit: Permit): void {
  // The handler of a stream of answers encodes: it counts bytes.
  const serialize = shape.responseStream ? (bytes: Buffer) => bytes : shape.response.encode;
  const handle = handler(shape, work, limit, permit);
  server.register(path, handle as never, serialize as never, reader(shape.request), kindOf(shape));
}

/** How grpc-js calls it. */
function kindOf({ requestStream, responseStream }: ServedMethod['shape']): string {
  if (requestStream) return responseStream ? 'bidi' : 'clientStream';
  return responseStream ? 'serverStream' : 'unary';
}

/** Permits the calls of clients that may put. */
class UploadPermit {
  readonly #rule: UploadRule;
  /** Whether nobody gets a connection without a certificate. */
  readonly #hasCertificate: boolean;

  constructor(rule: UploadRule, hasCertificate: boolean) {
    this.#rule = rule;
    this.#hasCertificate = hasCertificate;
  }

  check(caller: Caller): void {
    const isNear = caller.metadata.get(LOCAL_HEADER).includes('true');
    const isLocal = isNear && !isForwarded((name) => caller.metadata.get(name).length > 0);
    const [authorization] = caller.metadata.get('authorization').map(String);
    this.#rule.check({ isLocal, hasCertificate: this.#hasCertificate, authorization });
  }
}

function credentials(tls: TlsFiles | undefined): ServerCredentials {
  if (!tls) return ServerCredentials.createInsecure();
  const pair = { private_key: tls.key, cert_chain: tls.cert };
  return ServerCredentials.createSsl(tls.clientCa ?? null, [pair], tls.clientCa !== undefined);
}
