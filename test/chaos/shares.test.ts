import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import type { Store } from '../../src/store/services.ts';
import { openAt, startDaemon } from '../helpers/daemon.ts';
import { fillForGreed } from '../helpers/greedy-store.ts';
import { randomBytes } from '../helpers/random.ts';
import { readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

/** How long the greedy go on: `scripts/soak` takes longer. */
const SECONDS = Number(process.env.SOAK_SECONDS ?? 20);
const MIB = 1 << 20;
const MEMORY = 512 * MIB;
/** More than the example, which cost 1 GB and 40 s with sixty calls. */
const CHUNKS = 250_000;
/** A good client's calls may take so many times as long as when it is alone, or this long, in milliseconds. */
const TIMES = 5;
const FLOOR_MS = 150;
const GREEDY = [
  'lists',
  'unread-lists',
  'half-sent',
  'drip',
  'unread-reads',
  'unread-closures',
  'stopped-uploads',
  'silent',
  'calculate',
  'connections',
];

const clients: ChildProcess[] = [];
afterAll(() => {
  for (const client of clients) client.kill('SIGKILL');
});

function median(times: number[]): number {
  return times.sort((a, b) => a - b)[times.length >> 1]!;
}

/** Puts a blob and reads it back, over and over; gives how long it takes, in milliseconds. */
async function used(store: Store, ms: number, look = () => {}): Promise<number> {
  const times: number[] = [];
  const until = performance.now() + ms;
  for (let i = 0; performance.now() < until; i++) {
    const contents = randomBytes(1000, `good ${until} ${i}`);
    const begun = performance.now();
    const { digest } = await store.blobs.put(contents);
    expect((await readBlob(store, digest))?.equals(contents)).toBe(true);
    times.push(performance.now() - begun);
    look();
    await delay(20);
  }
  return median(times);
}

test(`${GREEDY.length} greedy clients at once keep nobody out of a daemon, for ${SECONDS} s`, async () => {
  const dir = join(tempDir(), 'store');
  const targets = await fillForGreed(dir, CHUNKS);
  const daemon = await startDaemon(`local://${dir}`);
  const good = await openAt(daemon.url);
  await used(good, 1000);
  const quiet = await used(good, 2000);
  for (const kind of GREEDY) {
    const program = new URL('../helpers/greedy-client.ts', import.meta.url).pathname;
    const args = [program, kind, String(daemon.port), JSON.stringify(targets)];
    // The others need a processor, too.
    const client = spawn('nice', ['-n', '19', process.execPath, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    clients.push(client);
    await once(client.stdout!, 'data');
  }
  let memory = 0;
  const look = () => {
    memory = Math.max(memory, daemon.memory());
  };
  const busy = await used(good, SECONDS * 1000, look);
  console.log({ quiet, busy, memory: memory / MIB });
  expect(memory / MIB).toBeLessThan(MEMORY / MIB);
  expect(busy).toBeLessThan(Math.max(FLOOR_MS, TIMES * quiet));
  for (const client of clients) client.kill('SIGKILL');
  // What they held is free again.
  await expect
    .poll(() => used(good, 500), { timeout: 30_000 })
    .toBeLessThan(Math.max(FLOOR_MS, TIMES * quiet));
  await good.close();
  expect(daemon.child.exitCode).toBe(null);
  expect(await daemon.stop()).toBe(0);
}, 240_000);
