import type { Server, Socket } from 'node:net';
import { FaultDomain } from '../util/async/fault-domain.ts';
import { peerOf } from '../util/system/unix-socket.ts';

let connections = 0;

/** A connection that a server has taken. What its events throws is its own fault. */
export class Connection extends FaultDomain {
  /** Whether the other end may do everything, if nobody else is behind it: only unix sockets tell. */
  readonly isTrusted: boolean;
  /** Who is at the other end, as far as shares go: an address; on this machine, where there may be anybody, a connection. */
  readonly peer: string;

  /** `shown` is the listener's address for people; `byMode`: whether only those can connect whom the operator let in. */
  constructor(socket: Socket, listener: Server, shown: string, byMode: boolean) {
    super(`a connection to ${shown}`, () => socket.destroy());
    this.isTrusted = !isTcp(listener) && (byMode || isOwner(socket));
    // The address of a peer that has gone again is not known.
    const isLocal = !isTcp(listener) || isLoopback(socket.remoteAddress);
    this.peer = isLocal ? `local connection ${++connections}` : (socket.remoteAddress ?? 'nobody');
  }

  /** The connection whose event is being handled. */
  static override get current(): Connection | undefined {
    const domain = FaultDomain.current;
    return domain instanceof Connection ? domain : undefined;
  }
}

/** Whether a server that listens does so on TCP. */
export function isTcp(listener: Server): boolean {
  const bound = listener.address();
  return bound !== null && typeof bound === 'object';
}

/** Whether a unix socket's other end is root, or the user of this process. */
export function isOwner(socket: Socket): boolean {
  const uid = peerOf(socket)?.uid;
  return uid !== undefined && (uid === 0 || uid === process.getuid!());
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/.test(address);
}
