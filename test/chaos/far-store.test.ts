import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, expect, onTestFailed, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import type { Reading, Task } from '../helpers/far-reader.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes, randomNumbers, SEED } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';

/** How long there is no peace: `scripts/soak` takes longer. */
const SECONDS = Number(process.env.SOAK_SECONDS ?? 20);
/** Readers at once, in a few processes. */
const PROCESSES = 5;
const LANES = 10;
const FILES = 3000;
const REST_MS = 30;
const TIMEOUT_MS = 10_000;
/** What a reader may wait beyond it, who may just have come when another had waited in vain. */
const LITTLE_MS = 3000;
/** Once the store is good, what is read is there within this time, in milliseconds. */
const GOOD_MS = 5000;
/** A machine that has other things to do. */
const SLACK_MS = 3000;

const dir = tempDir();
const tree = join(dir, 'tree');
const store = `local://${dir}/store`;
const random = randomNumbers(SEED);
const below = (limit: number) => Math.floor(random() * limit);

/** What was done how often, to see in the end that all had their share. */
const counts: Record<string, number> = {};
function count(what: string, more = 1): void {
  counts[what] = (counts[what] ?? 0) + more;
}

const readers: ChildProcess[] = [];
afterAll(() => {
  for (const reader of readers) reader.kill('SIGKILL');
});

function lengthOf(i: number): number {
  if (i % 400 === 0) return 2_000_000 + below(2_000_000);
  if (i % 20 === 0) return 100_000 + below(500_000);
  return 1000 + below(30_000);
}

/** Times in which the store was not good, in milliseconds since 1970. */
const trouble: { what: string; from: number; to: number }[] = [];

/** Since when the store has been good at a time; `undefined` while it is not. */
function goodSince(time: number): number | undefined {
  const before = trouble.filter(({ from }) => from <= time);
  if (before.some(({ to }) => to > time)) return undefined;
  return Math.max(0, ...before.map(({ to }) => to));
}

async function during(what: string, work: () => Promise<void>): Promise<void> {
  const entry = { what, from: Date.now(), to: Number.POSITIVE_INFINITY };
  trouble.push(entry);
  await work();
  entry.to = Date.now();
  count(what);
}

/** Has the files read in a new mount with a new cache. */
async function round(url: string, name: string, files: readonly string[]): Promise<Reading[]> {
  const cache = join(dir, 'cache');
  const mounted = await mount(['--store', url, '--cache', cache, '--timeout', `${TIMEOUT_MS / 1000}s`]);
  const readings: Reading[] = [];
  const work = Array.from({ length: PROCESSES }, (_, i) => {
    const reader = fork(join(import.meta.dirname, '../helpers/far-reader.ts'), {
      env: { ...process.env, UV_THREADPOOL_SIZE: String(LANES + 2) },
    });
    readers.push(reader);
    const done = new Promise<void>((resolve, reject) => {
      reader.on('message', (message: Reading | 'done') => {
        if (message === 'done') resolve();
        else readings.push(message);
      });
      reader.once('exit', (status) => reject(new Error(`a reader ended with ${status}`)));
    });
    // Every file is read by two of them.
    const own = files.filter((_, at) => at % PROCESSES === i || (at + 1) % PROCESSES === i);
    const task: Task = {
      mounted: join(mounted.dir, name),
      original: tree,
      files: own,
      lanes: LANES,
      restMs: REST_MS,
    };
    reader.send(task);
    return done.finally(() => reader.disconnect());
  });
  await Promise.all(work);
  expect((await mounted.stop()).status).toBe(0);
  rmSync(cache, { recursive: true });
  return readings;
}

test(
  `50 readers of a far store in a network of all evils, for ${SECONDS} s`,
  async () => {
    onTestFailed(() => console.error(`to repeat this: TEST_SEED=${SEED}`, counts));
    for (let i = 0; i < FILES; i++) {
      if (i % 100 === 0) mkdirSync(join(tree, `${i / 100}`), { recursive: true });
      writeFileSync(join(tree, `${Math.floor(i / 100)}/${i}`), randomBytes(lengthOf(i), i));
    }
    const files = Array.from({ length: FILES }, (_, i) => `${Math.floor(i / 100)}/${i}`);
    const { stdout } = await tvixStore(['import', '--store', store, tree]);
    const name = stdout.trim().slice('/nix/store/'.length);
    let daemon: TestDaemon = await startDaemon(store);
    const proxy = await TcpProxy.start(daemon.port);
    const deadline = Date.now() + SECONDS * 1000;

    const evils: Record<string, () => Promise<void>> = {
      delays: async () => {
        proxy.roundTrip = 100 + below(1500);
        await delay(500 + below(3000));
        proxy.roundTrip = 0;
      },
      stops: async () => {
        proxy.stall();
        await delay(200 + below(5000));
        proxy.flow();
      },
      'silent drops': async () => proxy.forget(),
      resets: async () => proxy.reset(),
      'wrong bytes': async () => {
        proxy.corrupt(1 + below(5));
        await delay(300);
        proxy.corrupt(0);
      },
      restarts: async () => {
        await daemon.stop(below(2) === 0 ? 'SIGKILL' : 'SIGTERM');
        await delay(below(5000));
        daemon = await startDaemon(store);
        proxy.target = daemon.port;
      },
    };
    const names = Object.keys(evils);
    let isOver = false;
    const disturbing = (async () => {
      try {
        // Each in its turn, however long that takes, then in any order. Some peace is long enough to tell whether all is well.
        for (let i = 0; i < names.length || Date.now() < deadline; i++) {
          const what = i < names.length ? names[i]! : names[below(names.length)]!;
          await during(what, evils[what]!);
          await delay(i % 3 === 2 ? GOOD_MS + SLACK_MS + below(2000) : below(2000));
        }
      } finally {
        isOver = true;
      }
    })();
    const readings: Reading[] = [];
    while (!isOver) {
      // In another order each time, the same for all, so that most of it is read where nobody has read it yet.
      const shuffled = files.map((file) => [random(), file] as const).sort(([a], [b]) => a - b);
      readings.push(
        ...(await round(
          proxy.url,
          name,
          shuffled.map(([, file]) => file),
        )),
      );
      count('rounds');
    }
    await disturbing;
    await daemon.stop();

    count('readings', readings.length);
    const problems = readings.flatMap((reading) => {
      const { begun, ended, error, wrong } = reading;
      const since = goodSince(ended);
      // How long it went on though the store was good, and had been for a while.
      const inPeace = since === undefined ? 0 : ended - Math.max(since, begun);
      const wait = ended - begun;
      counts['longest wait'] = Math.max(counts['longest wait'] ?? 0, wait);
      counts['longest wait in peace'] = Math.max(counts['longest wait in peace'] ?? 0, inPeace);
      if (error) count(`error ${error}`);
      const near = trouble.filter(({ from, to }) => from <= ended && to >= begun - GOOD_MS);
      const tell = (what: string) => [{ what, ...reading, near }];
      if (wrong) return tell('a wrong byte');
      if (wait > TIMEOUT_MS + LITTLE_MS + SLACK_MS) return tell('stuck');
      if (inPeace > GOOD_MS + SLACK_MS) return tell('waited in vain');
      if (error && since !== undefined && ended - since > GOOD_MS + SLACK_MS) return tell('failed in peace');
      return [];
    });
    if (process.env.SOAK_SECONDS) console.log(counts);
    expect(problems.slice(0, 5)).toEqual([]);
    for (const what of names) expect([what, counts[what] ?? 0]).not.toEqual([what, 0]);
  },
  SECONDS * 1000 + 180_000,
);
