import { spawnSync } from 'node:child_process';
import { closeSync } from 'node:fs';
import { StoreError } from '../util/errors.ts';
import { CallBuffer } from '../util/system/call-buffer.ts';
import { receiveMessage, socketPair } from '../util/system/unix-socket.ts';

/**
 * Mounts with the set-user-id helper `fusermount3`, as an ordinary user may. It opens the device, mounts,
 * and sends the descriptor over the socket named in `_FUSE_COMMFD`.
 */
export function mountWithHelper(mountPoint: string, options: readonly string[]): number {
  const [ours, theirs] = socketPair();
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
  const descriptors: number[] = [];
  receiveMessage(socket, new CallBuffer(1), 0, 1, descriptors);
  const [device] = descriptors;
  if (device === undefined) throw new StoreError('INTERNAL', 'fusermount3 mounted but sent no descriptor');
  return device;
}
