import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { ROOT } from './cli.ts';
import { tempDir } from './temp.ts';

const QEMU_GUEST = join(ROOT, 'scripts/qemu-guest');
export const BUSYBOX: string = join(ROOT, 'node_modules/.cache/qemu-guest/busybox');

const installed = spawnSync(QEMU_GUEST, { encoding: 'utf8', timeout: 300_000 });
/** Whether virtual machines can be started here. */
export const HAS_GUESTS: boolean = installed.status === 0;
if (!HAS_GUESTS) console.warn(`skipped: ${installed.stderr.trim() || 'no virtual machine'}`);

/** A run takes seconds, but not beside others on a busy machine. */
export const LONGEST_MS = 180_000;

const machines: Machine[] = [];

afterAll(() => {
  for (const machine of machines) machine.end();
});

/** A virtual machine that runs a script. */
export class Machine {
  readonly #child;
  readonly #closed: Promise<unknown>;
  #console = '';

  constructor(socket: string, script: string, args: readonly string[], environment: Record<string, string>) {
    const path = join(tempDir(), 'script');
    writeFileSync(path, script);
    this.#child = spawn(QEMU_GUEST, [path, socket, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    });
    this.#closed = once(this.#child, 'close');
    for (const output of [this.#child.stdout, this.#child.stderr]) {
      output.setEncoding('utf8').on('data', (part: string) => {
        this.#console += part.replaceAll('\r', '');
      });
    }
    machines.push(this);
  }

  get console(): string {
    return this.#console;
  }

  /** Resolves when the guest has said this so often. */
  async says(text: string, times = 1): Promise<void> {
    while (this.#console.split(text).length <= times) {
      if (this.#child.exitCode !== null) throw new Error(`the guest has ended: ${this.#console}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Resolves when it has switched itself off. */
  async off(): Promise<void> {
    await this.#closed;
    expect(this.#child.exitCode, this.#console).toBe(0);
  }

  end(): void {
    this.#child.kill('SIGTERM');
  }
}
