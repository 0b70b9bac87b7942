import { UsageError } from '../util/errors.ts';
import type { ListenAddress, SocketOwnership } from '../util/listen-address.ts';

/** Flags that say how a unix socket is to look. */
export interface SocketFlags {
  readonly socketMode?: number;
  readonly socketUid?: number;
  readonly socketGid?: number;
}

/** How a socket is to look. Throws a UsageError where only a file could look like that. */
export function socketOwnership(listen: ListenAddress, flags: SocketFlags): SocketOwnership {
  const ownership = { mode: flags.socketMode, uid: flags.socketUid, gid: flags.socketGid };
  const given = Object.entries(ownership).find(([, value]) => value !== undefined);
  if (given && listen.kind !== 'unix')
    throw new UsageError(`--socket-${given[0]} is for a unix socket with a path; there is no file here`);
  return ownership;
}
