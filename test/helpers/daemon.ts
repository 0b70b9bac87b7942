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
  /** Bytes of its memory that are in use, with what it sees of files. */
  rss(): number;
  /** Of them, those that are its own: pages of its program and its store are the system's cache. */
  memory(): number;
  /** Ends it by a signal; gives the exit status. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** Starts a daemon; whatever happens, it is gone after the test file. Over TCP it takes uploads, unless flags say who may. */
export const startDaemon = starter('daemon', anonymously);

/** Starts a binary cache, likewise. */
export const startNarBridge = starter('nar-bridge', anonymously);

/** Flags about who may upload. */
const ACCESS = [
  '--tokens',
  '--read-only',
  '--signing-key-file',
  '--tls-client-ca',
  '--allow-anonymous-upload',
];

function anonymously(listen: string, args: readonly string[]): string[] {
  return /:\d+$/.test(listen) && !args.some((flag) => ACCESS.includes(flag))
    ? ['--allow-anonymous-upload']
    : [];
}

/** Starts a daemon that Nix speaks to, likewise. */
export const startNixDaemon = starter('nix-daemon');

function starter(command: string, more: (listen: string, args: readonly string[]) => string[] = () => []) {
  return async (
    store: string,
    listen = '127.0.0.1:0',
    args: readonly string[] = [],
    options: SpawnOptions = {},
  ): Promise<TestDaemon> => {
    const flags = ['--store', store, '-l', listen, ...args, ...more(listen, args)];
    return asDaemon(await startTvixStore([command, ...flags], 'info: listening', options));
  };
}

/** A process that has said where it listens, as a daemon. */
export function asDaemon(child: ChildProcess & { log: () => string }): TestDaemon {
  started.push(child);
  const inStatus = (name: string) => {
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
    return Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)![1]) * 1024;
  };
  const at = /info: listening at=(?:"([^"]*)"|(\S+))/.exec(child.log())!;
  const address = at[1] ?? at[2]!;
  return {
    at: address,
    url: address.startsWith('/') ? `grpc+unix://${address}` : `grpc+http://${address}`,
    port: Number(address.slice(address.lastIndexOf(':') + 1)),
    child,
    log: child.log,
    rss: () => inStatus('VmRSS'),
    memory: () => inStatus('RssAnon'),
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
