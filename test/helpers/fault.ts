import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { vi } from 'vitest';
import { tempDir } from './temp.ts';

/** Makes a program that is started with `env` throw out of an event, on demand. */
export class Fault {
  readonly env: NodeJS.ProcessEnv;
  readonly #file = join(tempDir(), 'fault');

  /** `at`: the class of the emitter and the event, as in `Socket:readable`. */
  constructor(at: string) {
    const preload = join(import.meta.dirname, 'fault.mjs');
    this.env = { ...process.env, NODE_OPTIONS: `--import=${preload}`, FAULT_AT: at, FAULT_FILE: this.#file };
  }

  /** The next such event throws. */
  arm(): void {
    writeFileSync(this.#file, '');
  }

  /** Resolves when it has. */
  async happened(): Promise<void> {
    await vi.waitFor(() => {
      if (existsSync(this.#file)) throw new Error('the event has not come');
    }, 30_000);
  }
}

/** How often a program has told in its log of what was thrown out of an event. */
export function faultsIn(log: string): number {
  return log.split('error: a fault outside every request').length - 1;
}
