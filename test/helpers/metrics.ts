import { expect } from 'vitest';
import { http } from './http.ts';

/** What a process tells at an address of its `--metrics-listen`, or a binary cache by itself. */
export async function scrape(at: string): Promise<string> {
  const isSocket = at.startsWith('/');
  const port = isSocket ? 0 : Number(at.slice(at.lastIndexOf(':') + 1));
  const { status, body } = await http(port, '/metrics', isSocket ? { socketPath: at } : {});
  expect(status).toBe(200);
  return body.toString();
}

/** The value of a metric, with its labels as they are written; `undefined` when it is not there. */
export function valueIn(told: string, name: string): number | undefined {
  const line = told.split('\n').find((line) => line.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}

/** Where a process says that it tells its metrics. */
export function metricsAddress(log: string): string {
  return /^info: metrics at="?([^"\s]+)/m.exec(log)![1]!;
}
