import { join } from 'node:path';
import { Service } from './processes.ts';

const PROGRAM = join(import.meta.dirname, 'rate-proxy.ts');

/**
 * Runs `use` with the port of a TCP proxy before `port` through which so many bytes a second come, of all connections
 * together. It is a process of its own, and takes no time of those that are measured.
 */
export async function withRate<T>(
  port: number,
  bytesPerSecond: number,
  use: (port: number) => Promise<T>,
): Promise<T> {
  const args = [PROGRAM, String(port), String(bytesPerSecond)];
  const proxy = await Service.launch(args, 'listening at', process.execPath);
  try {
    return await use(Number(/listening at (\d+)/.exec(proxy.log)![1]));
  } finally {
    await proxy.stop();
  }
}
