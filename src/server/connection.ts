import type { Server, Socket } from 'node:net';
import { FaultDomain } from '../util/async/fault-domain.ts';

/** A connection that a server has taken. What its events throw is its own fault. */
export class Connection extends FaultDomain {
  /** Whether the other end is on this machine, whoever may be behind that. */
  readonly isLocal: boolean;

  /** `shown` is the listener's address for people. */
  constructor(socket: Socket, listener: Server, shown: string) {
    super(`a connection to ${shown}`, () => socket.destroy());
    // The address of a peer that has gone again is not known: it must not pass for one without any.
    this.isLocal = isTcp(listener) ? isLoopback(socket.remoteAddress) : true;
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

export function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/.test(address);
}
