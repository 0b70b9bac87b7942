import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { startTvixStore } from './cli.ts';
import type { AskOptions } from './fake-guest.ts';
import { FakeGuest } from './fake-guest.ts';
import { tempDir } from './temp.ts';

const started: ChildProcess[] = [];

afterAll(() => {
  for (const child of started) child.kill('SIGKILL');
});

/** Sees to it that a process goes when the test file is done. */
export function killLater(child: ChildProcess): void {
  started.push(child);
}

/** `tvix-store virtiofs` in a process of its own. */
export class TestVirtiofs {
  readonly socket: string;
  readonly child: ChildProcess & { log: () => string };

  private constructor(socket: string, child: ChildProcess & { log: () => string }) {
    this.socket = socket;
    this.child = child;
  }

  static async start(args: readonly string[], socket = join(tempDir(), 'socket')): Promise<TestVirtiofs> {
    const child = await startTvixStore(['virtiofs', ...args, socket], 'info: listening');
    killLater(child);
    return new TestVirtiofs(socket, child);
  }

  /** Lets a guest come, work, and go. */
  async guest<T>(work: (guest: FakeGuest) => Promise<T>): Promise<T> {
    const guest = await FakeGuest.connect(this.socket);
    try {
      return await work(guest);
    } finally {
      guest.disconnect();
    }
  }

  /** Lets a guest come, mount, work, and go. */
  mounted<T>(work: (guest: FakeGuest) => Promise<T>): Promise<T> {
    return this.guest(async (guest) => {
      const { error } = await guest.init();
      if (error !== 0) throw new Error(`INIT gives ${error}`);
      return work(guest);
    });
  }

  /** What it holds: descriptors, and mappings of guests' memory. */
  holdings(): { descriptors: number; mappings: number } {
    const proc = `/proc/${this.child.pid}`;
    const mappings = readFileSync(`${proc}/maps`, 'utf8').match(/memfd:guest/g) ?? [];
    return { descriptors: readdirSync(`${proc}/fd`).length, mappings: mappings.length };
  }

  log(): string {
    return this.child.log();
  }

  /** Resolves when something stands in the log. */
  async logged(text: string): Promise<void> {
    while (!this.log().includes(text)) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  async stop(): Promise<{ status: number | null; log: string }> {
    const ended = once(this.child, 'close');
    this.child.kill('SIGTERM');
    const [status] = await ended;
    return { status, log: this.log() };
  }
}

/** The SHA-256 of a file as a guest reads it. */
export async function hashOf(guest: FakeGuest, node: number, options?: AskOptions): Promise<string> {
  const hash = createHash('sha256');
  for (let offset = 0; ; ) {
    const { error, body } = await guest.read(node, offset, 128 * 1024, options);
    if (error !== 0) throw new Error(`READ gives ${error}`);
    if (body.length === 0) return hash.digest('hex');
    hash.update(body);
    offset += body.length;
  }
}
