/**
 * A program of its own that reads files of a mount, in many lanes at once, compares them with their originals, and
 * tells over the IPC channel of `child_process.fork` how each reading went. `test/chaos/far-store.test.ts` is the other
 * side.
 */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface Task {
  readonly mounted: string;
  readonly original: string;
  /** Files below both, in the order in which to read them. */
  readonly files: readonly string[];
  readonly lanes: number;
  /** Rest of a lane between two files, in milliseconds. */
  readonly restMs: number;
}

/** How a file was read. */
export interface Reading {
  readonly file: string;
  /** The system call that took longest, or the one that failed; in milliseconds since 1970. */
  readonly begun: number;
  readonly ended: number;
  /** An error's code. */
  readonly error?: string | undefined;
  readonly wrong: boolean;
}

const PART = 128 * 1024;

async function readOne({ mounted, original }: Task, file: string): Promise<Reading> {
  const wanted = await readFile(join(original, file));
  let slowest = { begun: Date.now(), ended: Date.now() };
  const timed = async <T>(call: () => Promise<T>): Promise<T> => {
    const begun = Date.now();
    try {
      const result = await call();
      if (Date.now() - begun > slowest.ended - slowest.begun) slowest = { begun, ended: Date.now() };
      return result;
    } catch (error) {
      slowest = { begun, ended: Date.now() };
      throw error;
    }
  };
  try {
    const handle = await timed(() => open(join(mounted, file)));
    try {
      const part = Buffer.alloc(PART);
      for (let at = 0; ; ) {
        const { bytesRead } = await timed(() => handle.read(part, 0, PART, at));
        const same = part.subarray(0, bytesRead).equals(wanted.subarray(at, at + bytesRead));
        at += bytesRead;
        if (!same || (bytesRead === 0 && at !== wanted.length)) return { file, ...slowest, wrong: true };
        if (bytesRead === 0) return { file, ...slowest, wrong: false };
      }
    } finally {
      await handle.close();
    }
  } catch (error) {
    return { file, ...slowest, error: (error as NodeJS.ErrnoException).code ?? String(error), wrong: false };
  }
}

process.on('message', async (task: Task) => {
  const files = [...task.files];
  const lane = async () => {
    for (let file = files.shift(); file !== undefined; file = files.shift()) {
      process.send!(await readOne(task, file));
      await delay(Math.random() * 2 * task.restMs);
    }
  };
  await Promise.all(Array.from({ length: task.lanes }, lane));
  process.send!('done');
});
process.once('disconnect', () => process.exit());
