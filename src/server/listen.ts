import { chmodSync, chownSync, lstatSync, unlinkSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { messageOf, StoreError, systemCode, UsageError } from '../util/errors.ts';

/** Where to listen: `host:port`, `[v6]:port`, `/path`, `./path`, `@abstract`, or `sd-listen`. */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'abstract'; readonly name: string }
  /** Sockets that systemd opened for us; all of them, or those of a name. */
  | { readonly kind: 'systemd'; readonly name?: string };

/** How a unix socket is to look. */
export interface SocketOwnership {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
}

const FIRST_SYSTEMD_FD = 3;

/** Throws INVALID_ARGUMENT. */
export function parseListenAddress(text: string): ListenAddress {
  if (text === 'sd-listen') return { kind: 'systemd' };
  if (text.startsWith('sd-listen:')) return { kind: 'systemd', name: text.slice('sd-listen:'.length) };
  if (text.startsWith('@') && text.length > 1) return { kind: 'abstract', name: text.slice(1) };
  if (text.startsWith('/') || text.startsWith('./')) return { kind: 'unix', path: text };
  const tcp = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/]*)):(\d{1,5})$/.exec(text);
  if (!tcp || Number(tcp[3]) > 65535) {
    throw new UsageError(
      `cannot listen on ${JSON.stringify(text)}; want host:port, [v6]:port, /path, @name or sd-listen`,
    );
  }
  return { kind: 'tcp', host: tcp[1] ?? (tcp[2] || '::'), port: Number(tcp[3]) };
}

/** Listens, and hands each connection on. Gives the servers, and the addresses for people. */
export async function listen(
  address: ListenAddress,
  ownership: SocketOwnership,
  onConnection: (socket: Socket) => void,
): Promise<{ servers: Server[]; addresses: string[] }> {
  const make = () => createServer({ noDelay: true }, onConnection);
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
      const server = await started(make(), { path: address.path }, address.path);
      if (ownership.mode !== undefined) chmodSync(address.path, ownership.mode);
      if (ownership.uid !== undefined || ownership.gid !== undefined) {
        chownSync(address.path, ownership.uid ?? -1, ownership.gid ?? -1);
      }
      return { servers: [server], addresses: [address.path] };
    }
    case 'abstract': {
      const server = await started(make(), { path: `\0${address.name}` }, `@${address.name}`);
      return { servers: [server], addresses: [`@${address.name}`] };
    }
    case 'systemd': {
      const fds = systemdSockets(address.name);
      const servers = await Promise.all(fds.map((fd) => started(make(), { fd }, `socket ${fd} of systemd`)));
      return { servers, addresses: fds.map((fd) => `sd-listen (descriptor ${fd})`) };
    }
  }
}

async function started(server: Server, options: object, shown: string): Promise<Server> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const code = systemCode(error);
      const why = code === 'EADDRINUSE' ? 'something listens there already' : messageOf(error);
      reject(new StoreError('FAILED_PRECONDITION', `cannot listen on ${shown}: ${why}`, { cause: error }));
    });
    server.listen(options, resolve);
  });
  return server;
}

/** A socket that nobody listens on is what a killed server left behind. */
async function removeStale(path: string): Promise<void> {
  try {
    if (!lstatSync(path).isSocket()) return;
  } catch {
    return;
  }
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error) => resolve(systemCode(error) !== 'ECONNREFUSED'));
  });
  if (!alive) unlinkSync(path);
}

/** The descriptors that systemd passed (sd_listen_fds(3)). */
function systemdSockets(name: string | undefined): number[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = process.env;
  const count = Number(LISTEN_FDS ?? 0);
  if (Number(LISTEN_PID) !== process.pid || !(count > 0)) {
    throw new StoreError(
      'FAILED_PRECONDITION',
      'systemd passed no sockets; start this through a .socket unit',
    );
  }
  const names = (LISTEN_FDNAMES ?? '').split(':');
  const all = Array.from({ length: count }, (_, i) => i);
  const chosen = name === undefined || name === '*' ? all : all.filter((i) => names[i] === name);
  if (chosen.length === 0)
    throw new StoreError('FAILED_PRECONDITION', `systemd passed no socket named ${name}`);
  return chosen.map((i) => FIRST_SYSTEMD_FD + i);
}
