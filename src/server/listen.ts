import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import type { Server } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { reasonOf, StoreError, systemCode } from '../util/errors.ts';
import type { ListenAddress, SocketOwnership } from '../util/listen-address.ts';
import { applyOwnership, removeStale, systemdSockets } from '../util/listen-address.ts';
import { log } from '../util/log.ts';
import { widenSendBuffer } from '../util/system/unix-socket.ts';
import { Connection, isTcp } from './connection.ts';
import type { Metric } from './metrics/metric.ts';

const OTHERS_WRITE = 0o002;

/** A server that runs. */
export interface RunningServer {
  /** Where it listens, for people. */
  readonly addresses: readonly string[];
  /** What is counted of it. */
  readonly metrics: readonly Metric[];
  /** Takes nothing new, lets what is under way finish for a while, or until it is to `hurry`, and ends. */
  stop(hurry?: AbortSignal): Promise<void>;
}

/** Makes a server listen: several of them, when systemd passes several sockets. */
export async function listen<S extends Server>(
  address: ListenAddress,
  ownership: SocketOwnership,
  make: () => S,
): Promise<{ servers: S[]; addresses: string[] }> {
  switch (address.kind) {
    case 'tcp': {
      const server = await started(
        make(),
        { host: address.host, port: address.port },
        `${address.host}:${address.port}`,
      );
      const bound = server.address();
      const port = typeof bound === 'object' && bound ? bound.port : address.port;
      const host = address.host.includes(':') ? `[${address.host}]` : address.host;
      return { servers: [server], addresses: [`${host}:${port}`] };
    }
    case 'unix': {
      await removeStale(address.path);
      const server = await started(make(), { path: address.path }, address.path, true);
      try {
        applyOwnership(address.path, ownership);
      } catch (error) {
        await closeListener(server);
        throw error;
      }
      return { servers: [server], addresses: [address.path] };
    }
    case 'abstract': {
      const server = await started(make(), { path: `\0${address.name}` }, `@${address.name}`);
      return { servers: [server], addresses: [`@${address.name}`] };
    }
    case 'systemd': {
      const fds = systemdSockets(address.name);
      const servers = await Promise.all(
        fds.map((fd) => started(make(), { fd }, `socket ${fd} of systemd`, 'unless all may connect')),
      );
      return { servers, addresses: fds.map((fd) => `sd-listen (descriptor ${fd})`) };
    }
  }
}

async function started<S extends Server>(
  server: S,
  options: object,
  shown: string,
  /** Whether its mode says who may do everything, if it is a unix socket with a path. */
  byMode: boolean | 'unless all may connect' = false,
): Promise<S> {
  server.prependListener('connection', (socket) => {
    new Connection(socket, server, shown, byMode === true || (byMode !== false && isForSome(server))).enter();
    if (!isTcp(server)) widenSendBuffer(socket);
  });
  try {
    await once(server.listen(options), 'listening');
  } catch (error) {
    const code = systemCode(error);
    const why = code === 'EADDRINUSE' ? 'something listens there already' : listenReason(shown, error);
    throw new StoreError('FAILED_PRECONDITION', `cannot listen on ${shown}: ${why}`, { cause: error });
  }
  // As when there are too many open files. Who waits is taken when there is room.
  server.on('error', (error) => log.warn('cannot take a connection', { at: shown, error: error.message }));
  return server;
}

/** Whether a listener is a unix socket that not everybody can connect to. */
function isForSome(server: Server): boolean {
  const path = server.address();
  return typeof path === 'string' && path.startsWith('/') && (statSync(path).mode & OTHERS_WRITE) === 0;
}

/** Node tells of a directory that is missing as if it could not be entered. */
function listenReason(shown: string, error: unknown): string {
  const isMissing = shown.startsWith('/') && !existsSync(dirname(shown));
  return isMissing ? `there is no directory ${dirname(shown)}` : reasonOf(error);
}

/** Waits for connections to end by themselves: so long at most, in milliseconds, or until there is reason to hurry. */
export async function grace(
  closed: Promise<unknown>,
  milliseconds: number,
  hurry: AbortSignal | undefined,
): Promise<void> {
  const options = { ref: false, ...(hurry && { signal: hurry }) };
  const over = delay(milliseconds, undefined, options).catch(() => {});
  await Promise.race([closed, over]);
}

/** Resolves when nobody can connect any more, and the last connection is closed. */
export function closeListener(listener: Server): Promise<void> {
  return new Promise((resolve) => listener.close(() => resolve()));
}
