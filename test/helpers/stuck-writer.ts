import type { ChildProcess } from 'node:child_process';
import { ROOT, start } from './cli.ts';

/** Holds the writers' lock of a store, as a writer does that is stopped in the middle of a transaction. */
export interface StuckWriter {
  readonly pid: number;
  /** Lets it go on. */
  release(): Promise<void>;
}

const PROGRAM = `
import { LocalStore } from '${ROOT}/dist/castore/local/store.js';
const store = LocalStore.open(process.argv[1], process.argv[2]);
store.env.transaction(() => {
  process.stderr.write('holding\\n');
  process.kill(process.pid, 'SIGSTOP');
});
await store.close();
`;

/** Has another process stop while it writes into the store in a directory. It is made where there is none. */
export async function stuckWriter(dir: string, kind: 'store' | 'cache' = 'store'): Promise<StuckWriter> {
  const args = ['--input-type=module', '-e', PROGRAM, dir, kind];
  const child: ChildProcess = await start(process.execPath, args, 'holding');
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return {
    pid: child.pid!,
    async release() {
      child.kill('SIGCONT');
      await ended;
    },
  };
}
