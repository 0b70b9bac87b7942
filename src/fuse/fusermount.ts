import { spawnSync } from 'node:child_process';
import { closeSync } from 'node:fs';
import { StoreError } from '../util/errors.ts';
import { addressOf, errno, errnoName, libc } from '../util/libc.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
/** Where things lie in the one buffer that `recvmsg` works on: `struct msghdr`, an iovec, control data, a byte. */
const VECTOR = 56;
const CONTROL = 72;
const CONTROL_LENGTH = 24;
const DATA = CONTROL + CONTROL_LENGTH;
/** The descriptor behind the header of the control data. */
const DESCRIPTOR = CONTROL + 16;

/**
 * Mounts with the set-user-id helper `fusermount3`, as an ordinary user may. It opens the device, mounts,
 * and sends the descriptor over the socket named in `_FUSE_COMMFD`.
 */
export function mountWithHelper(mountPoint: string, options: readonly string[]): number {
  const pair = Buffer.alloc(8);
  if (libc.socketpair(AF_UNIX, SOCK_STREAM, 0, pair) !== 0) {
    throw new StoreError('INTERNAL', `socketpair failed: ${errnoName(errno())}`);
  }
  const ours = pair.readInt32LE(0);
  const theirs = pair.readInt32LE(4);
  try {
    const helper = spawnSync('fusermount3', ['-o', options.join(','), '--', mountPoint], {
      stdio: ['ignore', 'ignore', 'pipe', theirs],
      env: { ...process.env, _FUSE_COMMFD: '3' },
    });
    if (helper.error) {
      throw new StoreError(
        'PERMISSION_DENIED',
        'mounting needs root, or the program fusermount3 (install the package "fuse3")',
        { cause: helper.error },
      );
    }
    if (helper.status !== 0) {
      const said = helper.stderr
        .toString()
        .trim()
        .replace(/^fusermount3: /, '');
      const hint = said.includes('user_allow_other') ? '' : ` on ${mountPoint}`;
      throw new StoreError('PERMISSION_DENIED', `cannot mount${hint}: ${said || 'fusermount3 failed'}`);
    }
    return receiveDescriptor(ours);
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
}

function receiveDescriptor(socket: number): number {
  const message = Buffer.alloc(DATA + 1);
  const address = addressOf(message);
  const pointer = (at: number, target: number, length: number) => {
    message.writeBigUInt64LE(BigInt(address + target), at);
    message.writeBigUInt64LE(BigInt(length), at + 8);
  };
  pointer(VECTOR, DATA, 1);
  pointer(16, VECTOR, 1);
  pointer(32, CONTROL, CONTROL_LENGTH);
  if (libc.recvmsg(socket, message, 0) < 1 || message.readUInt32LE(CONTROL) < DESCRIPTOR + 4 - CONTROL) {
    throw new StoreError('INTERNAL', 'fusermount3 mounted but sent no descriptor');
  }
  return message.readInt32LE(DESCRIPTOR);
}
