import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Started } from '../test/helpers/cli.ts';
import { CLI, run as runProgram, start } from '../test/helpers/cli.ts';

const CLIENT = join(import.meta.dirname, 'client.ts');
const LONGEST_MS = 180_000;

/** Fires when the bench is to end: what runs to its end is killed, and nothing starts any more. */
const stopping = new AbortController();
/** What was begun and is still waited for. */
const running = new Set<Promise<unknown>>();
const services = new Set<Service>();

/** Runs a command to its end and returns what it printed, without the last newline. */
export function run(command: string, args: readonly string[]): Promise<string> {
  return whileRunning(async () => {
    const options = { timeout: LONGEST_MS, signal: stopping.signal };
    const { status, stdout, stderr } = await runProgram(command, args, options);
    if (status !== 0)
      throw new Error(`${command} ${args.join(' ')}: ${lastLine(stderr) || `exit ${status}`}`);
    return stdout.trimEnd();
  });
}

/** Runs a program of this folder, and reads what it prints as JSON. */
export async function runClient<T>(file: string, ...args: readonly string[]): Promise<T> {
  return JSON.parse(await run(process.execPath, [join(import.meta.dirname, file), ...args]));
}

export interface Passes {
  /** The folder where the operation is done once before, untimed. */
  readonly rehearsal: string;
  readonly root: string;
  /** A file with the paths, as `client.ts` takes it. */
  readonly list: string;
  readonly passes: number;
}

/** Median seconds of one pass of `client.ts`. */
export async function client(operation: string, { rehearsal, root, list, passes }: Passes): Promise<number> {
  return Number(await run(process.execPath, [CLIENT, operation, rehearsal, root, list, String(passes)]));
}

/** Imports a path into a store, a folder or an address, and returns its base name there. */
export async function importPath(store: string, path: string): Promise<string> {
  const storePath = await tvixStore(['import', '--store', addressOf(store), path]);
  return storePath.slice('/nix/store/'.length);
}

/** Runs one of our commands to its end. */
export function tvixStore(args: readonly string[]): Promise<string> {
  return run(process.execPath, [CLI, ...args]);
}

/** A program in a process of its own, which works until it is told to stop. */
export class Service {
  readonly #process: Started;

  /** Starts one of our commands, or another program; resolves when its log has a line with `ready`. */
  static launch(args: readonly string[], ready: string, program?: string): Promise<Service> {
    return launch(args, ready, program, (child) => new Service(child));
  }

  constructor(child: Started) {
    this.#process = child;
    services.add(this);
    child.once('close', () => services.delete(this));
  }

  get pid(): number {
    return this.#process.pid!;
  }

  get log(): string {
    return this.#process.log();
  }

  /** Waits for the process to end. */
  async stop(): Promise<void> {
    if (!services.has(this)) return;
    const closed = once(this.#process, 'close');
    this.#process.kill('SIGTERM');
    const tooLong = setTimeout(() => this.kill(), 10_000);
    await closed;
    clearTimeout(tooLong);
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }
}

/** As `Service.launch`, for what is made of the process. */
export function launch<T extends Service>(
  args: readonly string[],
  ready: string,
  program: string | undefined,
  make: (child: Started) => T,
): Promise<T> {
  return whileRunning(async () => {
    const [command, all] = program ? [program, args] : [process.execPath, [CLI, ...args]];
    return make(await start(command, all, ready));
  });
}

/** A mount of a store. */
export class Mount extends Service {
  readonly point: string;

  /** Resolves when the mount is ready. The store is a folder or an address; the cache is a new one. */
  static start(store: string, point: string, flags: readonly string[]): Promise<Mount> {
    mkdirSync(point, { recursive: true });
    const address = addressOf(store);
    const cache = address.startsWith('local:') ? [] : ['--cache', `${point}.cache`];
    const args = ['mount', '--store', address, ...cache, ...flags, point];
    return launch(args, 'info: mounted', undefined, (child) => new Mount(child, point));
  }

  private constructor(child: Started, point: string) {
    super(child);
    this.point = point;
  }

  /** How many requests it answered, if it counts them; known once it has stopped. */
  get requests(): number | undefined {
    const count = /info: unmounted requests=(\d+)/.exec(this.log)?.[1];
    return count === undefined ? undefined : Number(count);
  }

  override kill(): void {
    super.kill();
    if (spawnSync('umount', ['-l', this.point]).status !== 0) spawnSync('fusermount3', ['-uz', this.point]);
  }
}

/** Ends everything that was started; nothing starts afterwards. */
export async function stopEverything(): Promise<void> {
  stopping.abort(new Error('the bench is stopping'));
  await Promise.allSettled(running);
  // What was started last relies on what was started before: a mount on its daemon.
  for (const service of [...services].reverse()) await service.stop();
}

async function whileRunning<T>(work: () => Promise<T>): Promise<T> {
  stopping.signal.throwIfAborted();
  const begun = work();
  running.add(begun);
  try {
    return await begun;
  } finally {
    running.delete(begun);
  }
}

function addressOf(store: string): string {
  return store.startsWith('/') ? `local://${store}` : store;
}

function lastLine(log: string): string {
  return log.trimEnd().split('\n').at(-1) ?? '';
}
