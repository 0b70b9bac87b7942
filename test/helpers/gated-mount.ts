import type { ChildProcess } from 'node:child_process';
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Digest } from '../../src/castore/digest.ts';
import type { Result } from './cli.ts';
import { ROOT } from './cli.ts';
import { endLater } from './mount.ts';
import { tempDir } from './temp.ts';

export type Service = 'blobs' | 'directories' | 'pathInfos';
export type State = 'open' | 'held' | 'failing' | 'silent' | 'lying';

export interface GatedOptions {
  /** What the store holds. */
  readonly trees: readonly string[];
  readonly cacheDir?: string;
  readonly readers?: number;
  readonly timeoutMs?: number;
  readonly listRoot?: boolean;
  /** Where to serve it as virtiofs, instead of mounting it. */
  readonly socket?: string;
}

export interface Counts {
  /** How often each thing was asked of a service: `blobs read <digest>`, `directories get <digest>`, … */
  readonly asked: Record<string, number>;
  /** Calls that wait for a gate. */
  readonly waiting: Record<Service, number>;
}

/** A mount, in a process of its own, of a store whose services the test controls. */
export class GatedMount {
  readonly dir: string;
  readonly cacheDir: string;
  readonly child: ChildProcess;
  /** Where the trees are, in the order given. */
  roots: string[] = [];
  #log = '';
  #nextId = 0;
  readonly #pending = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();

  private constructor(child: ChildProcess, dir: string, cacheDir: string) {
    this.child = child;
    this.dir = dir;
    this.cacheDir = cacheDir;
    child.stderr!.setEncoding('utf8').on('data', (part: string) => {
      this.#log += part;
    });
    child.on('message', ({ id, result, error }: { id: number; result: unknown; error?: string }) => {
      const { resolve, reject } = this.#pending.get(id)!;
      this.#pending.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    });
    child.once('exit', (status, signal) => {
      const error = new Error(`the mount ended with ${status ?? signal}: ${this.#log}`);
      for (const { reject } of this.#pending.values()) reject(error);
    });
  }

  static async start(options: GatedOptions): Promise<GatedMount> {
    const { cacheDir = join(tempDir(), 'cache') } = options;
    const dir = join(tempDir(), 'mnt');
    mkdirSync(dir);
    const child = fork(join(import.meta.dirname, 'gated-mount-program.ts'), {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      execArgv: ['--expose-gc'],
      // A fifth of the time of a short test is for compiling what has not changed.
      env: { NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/compiled'), ...process.env },
    });
    endLater(child, dir);
    const mount = new GatedMount(child, dir, cacheDir);
    const names = await mount.#ask<string[]>('start', { ...options, cacheDir, mountPoint: dir });
    mount.roots = names.map((name) => join(dir, name));
    return mount;
  }

  #ask<T>(command: string, rest: object = {}): Promise<T> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.child.send({ id, command, ...rest });
    });
  }

  /** What it has logged. */
  log(): string {
    return this.#log;
  }

  gate(service: Service | 'all', state: State): Promise<void> {
    return this.#ask('gate', { service, state });
  }

  counts(): Promise<Counts> {
    return this.#ask('counts');
  }

  async waiting(service: Service): Promise<number> {
    return (await this.counts()).waiting[service];
  }

  /** How often something was asked of the services, whatever the service. */
  async asked(pattern = ''): Promise<number> {
    const { asked } = await this.counts();
    const found = Object.entries(asked).filter(([key]) => key.includes(pattern));
    return found.reduce((sum, [, count]) => sum + count, 0);
  }

  statistics(): Promise<{ requests: Record<string, number>; nodes: number; bytesRead: number }> {
    return this.#ask('statistics');
  }

  collectGarbage(): Promise<void> {
    return this.#ask('collect');
  }

  /** Ends it by a signal; gives the exit status and how long that took in milliseconds. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<{ status: number | null; took: number }> {
    const begun = Date.now();
    const ended = once(this.child, 'exit');
    this.child.kill(signal);
    const [status] = await ended;
    return { status, took: Date.now() - begun };
  }
}

/** A process that reads a file, and what becomes of it. */
export interface Reader {
  readonly child: ChildProcess;
  readonly ended: Promise<Result & { readonly signal: NodeJS.Signals | null }>;
  /** True once it has ended. */
  done(): boolean;
}

/** Starts a program that may wait for the mount. It is killed after half a minute. */
export function start(command: string, ...args: string[]): Reader {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 30_000,
    killSignal: 'SIGKILL',
  });
  let isDone = false;
  const finish = async () => {
    const closed = once(child, 'close');
    const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
    const [status, signal] = await closed;
    isDone = true;
    return { status, signal, stdout, stderr };
  };
  return { child, ended: finish(), done: () => isDone };
}

/** Starts reading a file with `cat`. */
export function cat(path: string): Reader {
  return start('cat', path);
}

/** Digest of contents as the counts have it. */
export function digestOf(contents: string | Uint8Array): string {
  return Digest.hash(Buffer.from(contents)).hex;
}
