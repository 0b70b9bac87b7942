import { closeSync, existsSync, openSync, readFileSync, readSync, realpathSync } from 'node:fs';
import { StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';

/**
 * The lock that LMDB takes for every write, as its lock file shows it: a robust mutex of glibc, which lies 64 bytes into
 * the file and begins with the id of the thread that has it. The kernel shows a mapped file and a read one alike.
 */
const MUTEX_AT = 64;
const THREAD_ID = 0x3fff_ffff;

const LOOK_MS = 20;
/** A writer is told of who waits for it after so long, and is waited for until then, in milliseconds. */
const TOLD_AFTER_MS = 3000;
const GIVEN_UP_AFTER_MS = 30_000;

/** Waits for the writers' lock where LMDB would do so without a word, and for ever. */
export class WriterLock {
  readonly #dir: string;
  readonly #path: string;
  readonly #isOpen: boolean;
  #mapped: number | undefined;

  /** `isOpen`: this process has the database open. */
  constructor(dir: string, database: string, isOpen: boolean) {
    this.#dir = dir;
    this.#isOpen = isOpen;
    this.#path = `${existsSync(database) ? realpathSync(database) : database}-lock`;
  }

  /**
   * Waits until nobody has the lock, or it has changed hands: those who write in turn are soon done. Says after a while
   * for whom. Throws UNAVAILABLE when one process keeps it: it is stopped, or stuck.
   */
  wait(): void {
    const holder = this.#holder();
    if (holder === 0) return;
    const begun = performance.now();
    let isTold = false;
    while (this.#holder() === holder) {
      const waited = performance.now() - begun;
      if (waited > GIVEN_UP_AFTER_MS) {
        throw new StoreError(
          'UNAVAILABLE',
          `cannot write to the store in ${this.#dir}: ${describe(holder)} has been writing for ${Math.round(waited / 1000)} s. ` +
            'If it is stopped, let it go on, or end it',
        );
      }
      if (waited > TOLD_AFTER_MS && !isTold) {
        isTold = true;
        log.warn('waiting for another writer', { store: this.#dir, writer: describe(holder) });
      }
      Atomics.wait(SLEEP, 0, 0, LOOK_MS);
    }
  }

  /** The id of the thread that has the lock; 0 when nobody has it. */
  #holder(): number {
    try {
      this.#mapped ??= addressOf(this.#path);
      if (this.#mapped === undefined && this.#isOpen) return 0;
      const word =
        this.#mapped === undefined
          ? readWord(this.#path, MUTEX_AT)
          : readWord(MEMORY, this.#mapped + MUTEX_AT);
      return word & THREAD_ID;
    } catch {
      // There is no lock file yet.
      return 0;
    }
  }
}

/** This process's own memory. */
const MEMORY = '/proc/self/mem';

/**
 * Where LMDB has mapped its lock file, in this process. The file itself must not be touched then: to close it, by whatever
 * descriptor, gives up the locks of fcntl by which LMDB knows that somebody uses the database.
 */
function addressOf(path: string): number | undefined {
  const line = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .find((mapping) => mapping.endsWith(` ${path}`));
  return line === undefined ? undefined : Number.parseInt(line, 16);
}

function readWord(path: string, position: number): number {
  const fd = openSync(path, 'r');
  try {
    const word = Buffer.alloc(4);
    readSync(fd, word, 0, word.length, position);
    return word.readUInt32LE();
  } finally {
    closeSync(fd);
  }
}

const SLEEP = new Int32Array(new SharedArrayBuffer(4));

/** A process for people, as /proc knows it by one of its threads. */
function describe(thread: number): string {
  try {
    const status = readFileSync(`/proc/${thread}/status`, 'utf8');
    const [, pid] = /^Tgid:\s+(\d+)/m.exec(status)!;
    const [, state] = /^State:\s+\S\s+\((.*)\)/m.exec(status)!;
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    return `process ${pid} (${command}; ${state}; started ${startOf(pid!)})`;
  } catch {
    // One of another container, or that is just ending.
    return `process ${thread}`;
  }
}

/** When a process began. */
function startOf(pid: string): string {
  const ticks = Number(
    readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')[19],
  );
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  return new Date(Date.now() - (uptime - ticks / TICKS) * 1000).toISOString();
}

/** USER_HZ: the kernel tells programs times in hundredths of a second on every machine we run on. */
const TICKS = 100;
