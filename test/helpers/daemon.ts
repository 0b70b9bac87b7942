import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterAll, expect } from 'vitest';
import { openStore } from '../../src/store/open/open-store.ts';
import type { Store } from '../../src/store/services.ts';
import { startTvixStore, tvixStore } from './cli.ts';
import { readBlob } from './services.ts';
import { tempDir } from './temp.ts';

const started: ChildProcess[] = [];

// Registered when a test file imports this: hooks that are added while tests run would not be called.
afterAll(() => {
  for (const child of started) child.kill('SIGKILL');
});

/** A server in a process of its own. */
export interface TestDaemon {
  /** Where it says it listens. */
  readonly at: string;
  /** How a client names it, for one that listens on TCP or on a path. */
  readonly url: string;
  readonly port: number;
  readonly child: ChildProcess;
  log(): string;
  /** Bytes of its memory that are in use. */
  rss(): number;
  /** Ends it by a signal; gives the exit status. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** Starts a daemon; whatever happens, it is gone after the test file. */
export const startDaemon = starter('daemon');

/** Starts a binary cache, likewise. */
export const startNarBridge = starter('nar-bridge');

function starter(command: string) {
  return async (
    store: string,
    listen = '127.0.0.1:0',
    args: readonly string[] = [],
    options: SpawnOptions = {},
  ): Promise<TestDaemon> => {
    const flags = ['--store', store, '-l', listen, ...args];
    return asDaemon(await startTvixStore([command, ...flags], 'info: listening', options));
  };
}

/** A process that has said where it listens, as a daemon. */
export function asDaemon(child: ChildProcess & { log: () => string }): TestDaemon {
  started.push(child);
  const at = /info: listening at=(?:"([^"]*)"|(\S+))/.exec(child.log())!;
  const address = at[1] ?? at[2]!;
  return {
    at: address,
    url: address.startsWith('/') ? `grpc+unix://${address}` : `grpc+http://${address}`,
    port: Number(address.slice(address.lastIndexOf(':') + 1)),
    child,
    log: child.log,
    rss() {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1024;
    },
    async stop(signal = 'SIGTERM') {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const ended = once(child, 'exit');
      child.kill(signal);
      const [status] = await ended;
      return status;
    },
  };
}

/** The three services at one address. */
export function openAt(address: string): Promise<Store> {
  return openStore(
    { blobs: address, directories: address, pathInfos: address, cacheDir: tempDir() },
    'write',
  );
}

/** Puts a blob and gets it back, so that what listens is a daemon. */
export async function worksAt(address: string): Promise<void> {
  const store = await openAt(address);
  try {
    const { digest } = await store.blobs.put(Buffer.from(address));
    expect((await readBlob(store, digest))?.toString()).toBe(address);
  } finally {
    await store.close();
  }
}

/** What a daemon says that does not start; 1 is for a failure, 2 for wrong usage. */
export async function refusalOf(...args: string[]): Promise<string> {
  const { status, stderr } = await tvixStore(['daemon', '--store', 'memory://', ...args]);
  expect([1, 2], stderr).toContain(status);
  expect(stderr).toMatch(/^error: [^\n]*\n(\(see [^\n]*\)\n)?$/);
  return stderr;
}
