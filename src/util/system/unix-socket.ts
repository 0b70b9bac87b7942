import { closeSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { reasonOfCode, StoreError } from '../errors.ts';
import type { SocketOwnership, UnixAddress } from '../listen-address.ts';
import { applyOwnership, removeStale, socketName, systemdSockets } from '../listen-address.ts';
import { CallBuffer } from './call-buffer.ts';
import { errno, errnoName, libc, setNonBlocking } from './libc.ts';

/**
 * Unix sockets by system calls: Node's own cannot receive descriptors.
 */

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

/** `struct sockaddr_un` of a path, or of an abstract name when it begins with `@`. */
export function socketAddress(path: string): Buffer {
  const isAbstract = path.startsWith('@');
  const name = Buffer.from(isAbstract ? `\0${socketName(path.slice(1))}` : `${socketName(path)}\0`);
  return Buffer.concat([Buffer.from([AF_UNIX, 0]), name]);
}

/** A pair of connected sockets. */
export function socketPair(): [number, number] {
  const pair = Buffer.alloc(8);
  if (libc.socketpair(AF_UNIX, SOCK_STREAM, 0, pair) !== 0) {
    throw new StoreError('INTERNAL', `socketpair failed: ${errnoName(errno())}`);
  }
  return [pair.readInt32LE(0), pair.readInt32LE(4)];
}

/** Sends one datagram to a socket at a path or abstract name, if it is there. */
export function sendDatagram(path: string, message: Buffer): void {
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const address = socketAddress(path);
  libc.sendto(fd, message, message.length, 0, address, address.length);
  closeSync(fd);
}

/** A socket that listens. */
export interface Listener {
  readonly fd: number;
  /** The address for people. */
  readonly shown: string;
  close(): void;
}

/** Listens on a unix socket: at a path, under an abstract name, or the one that systemd passed. */
export async function listenUnix(address: UnixAddress, ownership: SocketOwnership): Promise<Listener> {
  if (address.kind === 'systemd') {
    const [fd, ...others] = systemdSockets(address.name);
    if (fd === undefined || others.length > 0) {
      throw new StoreError('FAILED_PRECONDITION', 'systemd passed several sockets; name one: sd-listen:NAME');
    }
    setNonBlocking(fd);
    return { fd, shown: `sd-listen (descriptor ${fd})`, close: () => closeSync(fd) };
  }
  const path = address.kind === 'unix' ? address.path : `@${address.name}`;
  const name = socketAddress(path);
  if (address.kind === 'unix') await removeStale(path);
  const fd = libc.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const refuse = (): StoreError => {
    const error = errnoName(errno());
    closeSync(fd);
    const why = error === 'EADDRINUSE' ? 'something is there already' : reasonOfCode(error);
    return new StoreError('FAILED_PRECONDITION', `cannot listen on ${path}: ${why}`);
  };
  if (libc.bind(fd, name, name.length) !== 0) throw refuse();
  // Before anybody can connect.
  if (address.kind === 'unix') applyOwnership(path, ownership);
  if (libc.listen(fd, 1) !== 0) throw refuse();
  return {
    fd,
    shown: path,
    close() {
      closeSync(fd);
      if (address.kind === 'unix') rmSync(path, { force: true });
    },
  };
}

/** Takes a connection, non-blocking; `undefined` when there is none. */
export function acceptConnection(listener: number): number | undefined {
  const fd = libc.accept4(listener, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return fd < 0 ? undefined : fd;
}

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
/** Bytes; Linux takes twice as much, for what it needs besides. */
const SEND_BUFFER = Int32Array.of(1 << 20);

/**
 * Gives a connection more room for what its peer has not read yet. Linux's own 208 KiB, which for TCP grow to
 * 4 MiB, make the sender of a large file wait for the reader all the time: a fifth of the speed. For users other than
 * root, `net.core.wmem_max` limits it.
 */
export function widenSendBuffer(socket: Socket): void {
  const fd = descriptorOf(socket);
  const set = (option: number) =>
    libc.setsockopt(fd, SOL_SOCKET, option, SEND_BUFFER, SEND_BUFFER.byteLength) === 0;
  if (!set(SO_SNDBUFFORCE)) set(SO_SNDBUF);
}

const SO_PEERCRED = 17;

/** The process at the other end of a unix socket, as it was when it connected; `undefined` when that cannot be told. */
export function peerOf(socket: Socket): { readonly pid: number; readonly uid: number } | undefined {
  const credentials = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(credentials.length);
  if (libc.getsockopt(descriptorOf(socket), SOL_SOCKET, SO_PEERCRED, credentials, length) !== 0)
    return undefined;
  return { pid: credentials.readInt32LE(0), uid: credentials.readUInt32LE(4) };
}

const F_DUPFD_CLOEXEC = 1030;

/** Another descriptor of a connection. Throws INTERNAL when there are too many. */
export function duplicate(socket: Socket): number {
  const fd = libc.fcntl(descriptorOf(socket), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) throw new StoreError('INTERNAL', `cannot use a connection: ${errnoName(errno())}`);
  return fd;
}

/** Node tells it nowhere else. */
function descriptorOf(socket: Socket): number {
  const { _handle } = socket as unknown as { readonly _handle?: { readonly fd: number } };
  return _handle?.fd ?? -1;
}

/** Where things lie in the one buffer that `recvmsg` works on: `struct msghdr`, an iovec, control data. */
const VECTOR = 56;
const CONTROL = 72;
const CONTROL_HEADER = 16;
const CONTROL_LENGTH_AT = 40;
const FLAGS_AT = 48;
const MAX_DESCRIPTORS = 64;
const MSG_CTRUNC = 8;
const MSG_CMSG_CLOEXEC = 0x40000000;

/**
 * Receives into `into.bytes[start, end)`, and appends to `descriptors` those sent along. Gives the number of bytes,
 * 0 at the end, or -1 (with an errno).
 */
export function receiveMessage(
  socket: number,
  into: CallBuffer,
  start: number,
  end: number,
  descriptors: number[],
): number {
  const { bytes: message, address } = new CallBuffer(CONTROL + CONTROL_HEADER + 4 * MAX_DESCRIPTORS);
  message.fill(0);
  const pointer = (at: number, target: number, length: number) => {
    message.writeBigUInt64LE(BigInt(target), at);
    message.writeBigUInt64LE(BigInt(length), at + 8);
  };
  pointer(VECTOR, into.address + start, end - start);
  pointer(16, address + VECTOR, 1);
  pointer(32, address + CONTROL, message.length - CONTROL);
  const length = libc.recvmsg(socket, message, MSG_CMSG_CLOEXEC);
  if (length < 0) return length;
  const controlEnd = CONTROL + message.readUInt32LE(CONTROL_LENGTH_AT);
  if (controlEnd > CONTROL + CONTROL_HEADER) {
    const last = Math.min(controlEnd, CONTROL + message.readUInt32LE(CONTROL));
    for (let at = CONTROL + CONTROL_HEADER; at + 4 <= last; at += 4)
      descriptors.push(message.readInt32LE(at));
  }
  if ((message.readUInt32LE(FLAGS_AT) & MSG_CTRUNC) !== 0) {
    throw new StoreError('INVALID_ARGUMENT', `more than ${MAX_DESCRIPTORS} descriptors came with a message`);
  }
  return length;
}
