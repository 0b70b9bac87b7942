import { spawnSync } from 'node:child_process';

/** A compression by a program of the system. */
export function program(name: string, args: readonly string[]): (input: Uint8Array) => Buffer {
  return (input) => {
    const { stdout, status } = spawnSync(name, args, { input, maxBuffer: 1 << 30 });
    if (status !== 0) throw new Error(`${name} is needed for this test`);
    return stdout;
  };
}
