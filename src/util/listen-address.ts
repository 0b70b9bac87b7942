import { chmodSync, chownSync, lstatSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { resolve } from 'node:path';
import { StoreError, systemCode, UsageError } from './errors.ts';

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

/** A listening address that is a unix socket. */
export type UnixAddress = Exclude<ListenAddress, { kind: 'tcp' }>;

const FIRST_SYSTEMD_FD = 3;
/** Longest path or name of a unix socket, in bytes: `sun_path` of Linux has room for these and a NUL. */
const MAX_SOCKET_NAME = 107;

/** Gives a unix socket's path or abstract name. Throws a UsageError for one that Linux has no room for. */
export function socketName(name: string): string {
  const length = Buffer.byteLength(name);
  if (length <= MAX_SOCKET_NAME) return name;
  throw new UsageError(
    `${name} is too long for a unix socket: it has ${length} bytes, want ${MAX_SOCKET_NAME} at most`,
  );
}

/** Throws INVALID_ARGUMENT. */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith('/') || text.startsWith('./')) return { kind: 'unix', path: socketName(resolve(text)) };
  const named = parseNamed(text);
  if (named) return named;
  const tcp = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/]*)):(\d{1,5})$/.exec(text);
  if (!tcp || Number(tcp[3]) > 65535) {
    throw new UsageError(
      `cannot listen on ${JSON.stringify(text)}; want host:port, [v6]:port, /path, @name or sd-listen`,
    );
  }
  return { kind: 'tcp', host: tcp[1] ?? (tcp[2] || '::'), port: Number(tcp[3]) };
}

/** A path, `@abstract` or `sd-listen`. */
export function parseUnixAddress(text: string): UnixAddress {
  return parseNamed(text) ?? { kind: 'unix', path: socketName(resolve(text)) };
}

function parseNamed(text: string): UnixAddress | undefined {
  if (text === 'sd-listen') return { kind: 'systemd' };
  if (text.startsWith('sd-listen:')) return { kind: 'systemd', name: text.slice('sd-listen:'.length) };
  if (text.startsWith('@') && text.length > 1) return { kind: 'abstract', name: socketName(text.slice(1)) };
  return undefined;
}

/** A socket that nobody listens on is what a killed server left behind. */
export async function removeStale(path: string): Promise<void> {
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
export function systemdSockets(name: string | undefined): number[] {
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

/** Gives a unix socket its mode and owner. */
export function applyOwnership(path: string, { mode, uid, gid }: SocketOwnership): void {
  if (mode !== undefined) chmodSync(path, mode);
  if (uid !== undefined || gid !== undefined) chownSync(path, uid ?? -1, gid ?? -1);
}
