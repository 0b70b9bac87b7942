import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { inTime } from '../util/async/in-time.ts';
import { messageOf, StoreError } from '../util/errors.ts';
import { CallBuffer } from '../util/system/call-buffer.ts';
import { findProgram, runProgram } from '../util/system/program.ts';
import { receiveMessage, socketPair } from '../util/system/unix-socket.ts';

/** How long the helper may take, in milliseconds. */
const HELPER_MS = 10_000;
/**
 * Becomes the helper when it is told what to unmount, and otherwise ends with whom it waits for. Signals to all are not
 * for it. What stands behind the path keeps the shell from taking line ends from its end.
 */
const STAND_BY = `trap '' HUP INT TERM; read -r path && path=$(printf '%bx' "$path") && exec "$0" -u -z -- "\${path%x}"`;

/** Somebody who waits to unmount. */
export interface StandBy {
  /** Detaches a mount; true when that worked. */
  unmount(mountPoint: string): Promise<boolean>;
  /** It is not needed. */
  dismiss(): void;
}

/** The set-user-id helper `fusermount3`, by which an ordinary user may mount and unmount. */
export class Fusermount {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Looks for it in PATH. Throws PERMISSION_DENIED where it is not. */
  static async find(): Promise<Fusermount> {
    const path = await findProgram('fusermount3');
    if (path !== undefined) return new Fusermount(path);
    throw new StoreError(
      'PERMISSION_DENIED',
      'mounting needs root, or the program fusermount3 (install the package "fuse3")',
    );
  }

  /** Mounts; gives the device, which the helper sends over the socket named in `_FUSE_COMMFD`. */
  async mount(mountPoint: string, options: readonly string[]): Promise<number> {
    const [ours, theirs] = socketPair();
    try {
      const { status, complaint } = await runProgram(
        this.#path,
        ['-o', options.join(','), '--', mountPoint],
        HELPER_MS,
        { env: { ...process.env, _FUSE_COMMFD: '3' }, stdio: [theirs] },
      ).finally(() => closeSync(theirs));
      if (status !== 0) {
        const said = complaint.replace(/^\S*fusermount3: /, '');
        const hint = said.includes('user_allow_other') ? '' : ` on ${mountPoint}`;
        throw new StoreError('PERMISSION_DENIED', `cannot mount${hint}: ${said || 'fusermount3 failed'}`);
      }
      return receiveDescriptor(ours);
    } catch (error) {
      if (error instanceof StoreError) throw error;
      throw new StoreError('PERMISSION_DENIED', `cannot run ${this.#path}: ${messageOf(error)}`, {
        cause: error,
      });
    } finally {
      closeSync(ours);
    }
  }

  /** Detaches a mount; true when that worked. */
  async unmount(mountPoint: string): Promise<boolean> {
    const ended = runProgram(this.#path, ['-u', '-z', '--', mountPoint], HELPER_MS);
    return ended.then(
      ({ status }) => status === 0,
      () => false,
    );
  }

  /**
   * Has a process ready that becomes the helper, to unmount what will be mounted there, or will have been moved from
   * there. Node would wait for a program to be loaded; if any of it lay in the mount, that would be for ever. The place
   * stands in its command line for whoever looks at that.
   */
  standBy(mountPoint: string): StandBy {
    const child = spawn('/bin/sh', ['-c', STAND_BY, this.#path, mountPoint], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    // Its failures are no loss: `unmount` below then runs the helper as any other program.
    for (const part of [child, child.stdin]) part.on('error', () => {});
    child.unref();
    const exit = once(child, 'exit');
    exit.catch(() => {});
    return {
      unmount: async (path) => {
        child.stdin.end(`${escaped(path)}\n`);
        const [status] = await inTime(exit, HELPER_MS).catch(() => []);
        return status === 0 || this.unmount(path);
      },
      dismiss: () => child.stdin.end(),
    };
  }
}

/** A text as `%b` of the shell's printf takes it, on one line. */
function escaped(text: string): string {
  return [...Buffer.from(text)].map((byte) => `\\0${byte.toString(8).padStart(3, '0')}`).join('');
}

/** Takes the descriptor that lies in a socket whose other end is closed. */
function receiveDescriptor(socket: number): number {
  const descriptors: number[] = [];
  receiveMessage(socket, new CallBuffer(1), 0, 1, descriptors);
  const [device] = descriptors;
  if (device === undefined) throw new StoreError('INTERNAL', 'fusermount3 mounted but sent no descriptor');
  return device;
}
