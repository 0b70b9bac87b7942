import { readdirSync } from 'node:fs';
import type { Server as NetServer, Socket } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Server, ServerCredentials } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation, protoPath as healthProto } from 'grpc-health-check';
import { DIALECTS, methodPath, TRANSPORT_OPTIONS } from '../../proto/grpc/methods.ts';
import type { Services } from '../../store/services.ts';
import type { ListenAddress, SocketOwnership } from '../../util/listen-address.ts';
import type { RunningServer } from '../listen.ts';
import { closeListener, isTcp, listen } from '../listen.ts';
import type { UploadRule } from '../upload-rule.ts';
import { isForwarded, isLoopback } from '../upload-rule.ts';
import type { Caller } from './calls.ts';
import { CallLimit, handler, reader } from './calls.ts';
import { implementations } from './services.ts';
import { serverWithWindow } from './wide-window.ts';

/** Calls under way at once, over all connections. */
const MAX_CALLS = 4096;
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
  readonly store: Services;
  readonly listen: ListenAddress;
  readonly ownership: SocketOwnership;
  readonly tls?: TlsFiles | undefined;
  readonly uploads: UploadRule;
}

/** Serves a store over gRPC, under both package names, with health and reflection. */
export async function serveGrpc(options: GrpcServerOptions): Promise<RunningServer> {
  const server = serverWithWindow(TRANSPORT_OPTIONS['grpc-node.flow_control_window'], {
    ...TRANSPORT_OPTIONS,
    'grpc.max_concurrent_streams': MAX_STREAMS_PER_CONNECTION,
  });
  const limit = new CallLimit(MAX_CALLS);
  const uploads = new UploadPermit(options.uploads, options.tls?.clientCa !== undefined);
  addStore(server, options.store, limit, uploads);
  const health = new HealthImplementation({ '': 'SERVING' });
  health.addToServer(server);
  new ReflectionService(loadProtos()).addToServer(server);

  // Connections are accepted here and handed over: grpc-js cannot listen on all that we can.
  const injector = server.createConnectionInjector(credentials(options.tls));
  const sockets = new Set<Socket>();
  const accept = (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    injector.injectConnection(socket);
  };
  const make = () => createServer({ noDelay: true }, accept);
  const { servers, addresses } = await listen(options.listen, options.ownership, make);
  uploads.listeners = servers;
  return {
    addresses,
    async stop() {
      health.setStatus('', 'NOT_SERVING');
      // A listener is closed when its last connection is.
      const closed = Promise.all(servers.map(closeListener));
      injector.drain(GRACE_MS);
      const grace = limit.running > 0 ? GRACE_MS : IDLE_GRACE_MS;
      await Promise.race([closed, delay(grace, undefined, { ref: false })]);
      for (const socket of sockets) socket.destroy();
      await closed;
      server.forceShutdown();
      injector.destroy();
    },
  };
}

function addStore(server: Server, store: Services, limit: CallLimit, uploads: UploadPermit): void {
  for (const { method, work } of implementations(store)) {
    const permit = (caller: Caller) => {
      if (method.name === 'Put') uploads.check(caller);
    };
    for (const dialect of DIALECTS) {
      const path = methodPath(dialect, method);
      const definition = {
        path,
        requestStream: method.requestStream,
        responseStream: method.responseStream,
        requestSerialize: method.request.encode,
        requestDeserialize: reader(method.request),
        // The handler of a stream encodes: it counts bytes.
        responseSerialize: method.responseStream ? asIs : method.response.encode,
        responseDeserialize: method.response.decode,
      };
      server.addService({ [method.name]: definition } as never, {
        [method.name]: handler(method as never, work as never, limit, permit),
      });
    }
  }
}

/** Lets those put who may. */
class UploadPermit {
  readonly #rule: UploadRule;
  /** Whether nobody gets a connection without a certificate. */
  readonly #hasCertificate: boolean;
  listeners: readonly NetServer[] = [];

  constructor(rule: UploadRule, hasCertificate: boolean) {
    this.#rule = rule;
    this.#hasCertificate = hasCertificate;
  }

  check(caller: Caller): void {
    // A peer without an address is at a unix socket, or has gone.
    const [, address] = /^(.*):\d+$/.exec(caller.getPeer()) ?? [];
    const isNear = address === undefined ? !this.listeners.some(isTcp) : isLoopback(address);
    const isLocal = isNear && !isForwarded((name) => caller.metadata.get(name).length > 0);
    const [authorization] = caller.metadata.get('authorization').map(String);
    this.#rule.check({ isLocal, hasCertificate: this.#hasCertificate, authorization });
  }
}

function asIs<T>(bytes: T): T {
  return bytes;
}

function credentials(tls: TlsFiles | undefined): ServerCredentials {
  if (!tls) return ServerCredentials.createInsecure();
  const pair = { private_key: tls.key, cert_chain: tls.cert };
  return ServerCredentials.createSsl(tls.clientCa ?? null, [pair], tls.clientCa !== undefined);
}

/** The descriptions of both dialects and of health, for reflection. */
function loadProtos() {
  const root = fileURLToPath(new URL('../../proto/generated/protos/', import.meta.url));
  const files = readdirSync(root, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith('.proto'));
  return loadSync([...files.sort().map((name) => join(root, name)), healthProto], {
    includeDirs: [root],
    keepCase: true,
  });
}
