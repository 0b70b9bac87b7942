import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFailed, test } from 'vitest';
import { CLI, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { randomNumbers, SEED } from '../helpers/random.ts';
import { checkLocalStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { generateTree, writeTree } from '../helpers/trees.ts';

/** How long all work together: `scripts/soak` takes longer. */
const SECONDS = Number(process.env.SOAK_SECONDS ?? 30);
const TREES = 8;
const FILES_EACH = 60;

const dir = tempDir();
const store = join(dir, 'store');
const url = `local://${store}`;
const random = randomNumbers(SEED);
const below = (limit: number) => Math.floor(random() * limit);
const trees = Array.from({ length: TREES }, (_, i) => join(dir, 'trees', `tree-${i}`));

/** What was done how often, to see in the end that all had their share. */
const counts: Record<string, number> = {};
function count(what: string): void {
  counts[what] = (counts[what] ?? 0) + 1;
}

/** Runs the program; with `killAfter` it may be killed on its way. */
async function program(args: readonly string[], killAfter?: number) {
  const child: ChildProcess = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (part: string) => {
      output += part;
    });
  }
  const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfter);
  const [status] = await once(child, 'close');
  clearTimeout(timer);
  return { status: status as number | null, output };
}

/** Compares a tree with the one that it was imported from. */
function compare(path: string, original: string): void {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) {
    if (readlinkSync(path) !== readlinkSync(original)) throw new Error(`${path} points elsewhere`);
  } else if (stat.isFile()) {
    if (!readFileSync(path).equals(readFileSync(original))) throw new Error(`${path} has other contents`);
  } else {
    const names = readdirSync(path).sort();
    if (names.join('/') !== readdirSync(original).sort().join('/'))
      throw new Error(`${path} has other entries`);
    for (const name of names) compare(join(path, name), join(original, name));
  }
}

test(
  `imports, a daemon, mounts, collections and checks in one store, together for ${SECONDS} s`,
  async () => {
    onTestFailed(() => console.error(`to repeat this: TEST_SEED=${SEED}`, counts));
    mkdirSync(join(dir, 'trees'));
    for (const [i, path] of trees.entries()) writeTree(path, generateTree(FILES_EACH, i));
    const first = await program(['import', '--store', url, ...trees]);
    const names = first.output
      .trim()
      .split('\n')
      .map((line) => line.replace('/nix/store/', ''));
    expect(names.length).toBe(TREES);
    const deadline = Date.now() + SECONDS * 1000;
    /** By tree, a root that holds it. */
    const rooted = new Map<number, string>();
    let serial = 0;
    /** Runs something over and over; an error ends the test. */
    const over = async (work: () => Promise<void>) => {
      while (Date.now() < deadline) await work();
    };

    /** Imports a tree, and holds it if the collector was not faster. */
    const importInto = async (address: string, tree: number) => {
      const imported = await program(['import', '--store', address, trees[tree]!]);
      expect(imported).toMatchObject({ status: 0, output: `/nix/store/${names[tree]}\n` });
      const root = `root-${tree}-${serial++}`;
      const added = await program(['root', 'add', '--store', url, root, names[tree]!]);
      if (added.status === 0) rooted.set(tree, root);
      else expect(added.output).toContain('is not in the store');
      count(added.status === 0 ? 'imported and held' : 'imported and lost');
    };

    const importing = over(() => importInto(url, below(TREES / 2)));
    const uploading = over(async () => {
      const daemon = await startDaemon(url);
      for (let i = 0; i < 3 && Date.now() < deadline; i++)
        await importInto(daemon.url, TREES / 2 + below(TREES / 2));
      expect(await daemon.stop()).toBe(0);
      count('daemons');
    });
    const letting = over(async () => {
      await delay(500 + below(1500));
      if (rooted.size < 3) return;
      const [tree, root] = [...rooted][below(rooted.size)]!;
      rooted.delete(tree);
      expect(await program(['root', 'remove', '--store', url, root])).toMatchObject({ status: 0 });
      count('let go');
    });
    const collecting = over(async () => {
      const killed = below(3) === 0;
      const { status, output } = await program(
        ['gc', '--older-than', '0', '--store', url],
        killed ? below(1000) : undefined,
      );
      if (status !== null) expect({ status, output }).toMatchObject({ status: 0 });
      count(status === null ? 'killed collections' : 'collections');
      const freed = Number(/freed (\d+) store/.exec(output)?.[1] ?? 0);
      counts.freed = (counts.freed ?? 0) + freed;
    });
    const reading = over(async () => {
      const mounted = await mount(['--store', url]);
      for (let i = 0; i < 12 && Date.now() < deadline; i++) {
        const tree = below(TREES);
        const path = join(mounted.dir, names[tree]!);
        const heldBy = rooted.get(tree);
        const found = statSync(path, { throwIfNoEntry: false });
        if (found) {
          await delay(below(500));
          // Once its name was found, all of it is there.
          compare(path, trees[tree]!);
          count('read');
        } else {
          if (heldBy && rooted.get(tree) === heldBy)
            throw new Error(`${names[tree]} is gone, though a root held it`);
          count('not there');
        }
        await delay(20);
      }
      expect((await mounted.stop()).status).toBe(0);
      count('mounts');
    });
    const checking = over(async () => {
      await delay(1000);
      expect(await program(['fsck', '--store', url])).toMatchObject({ status: 0 });
      count('checks');
    });
    await Promise.all([importing, uploading, letting, collecting, reading, checking]);

    const left = await checkLocalStore(store);
    expect(left).toEqual(
      expect.arrayContaining([...rooted.keys()].map((tree) => `/nix/store/${names[tree]}`)),
    );
    const list = await tvixStore(['root', 'list', '--json', '--store', url]);
    for (const line of list.stdout.trim().split('\n').filter(Boolean)) {
      await tvixStore(['root', 'remove', '--store', url, JSON.parse(line).name]);
    }
    // The second one finds no session that was alive when the first one began.
    for (let i = 0; i < 2; i++) await tvixStore(['gc', '--older-than', '0', '--store', url]);
    const stats = JSON.parse((await tvixStore(['stats', '--json', '--store', url])).stdout);
    expect(stats).toMatchObject({ paths: 0, directories: 0, chunks: 0, chunkFiles: 0 });
    const chunks = join(store, 'chunks');
    const files = readdirSync(chunks, { recursive: true, encoding: 'utf8' });
    expect(files.filter((name) => statSync(join(chunks, name)).isFile())).toEqual([]);
    for (const what of ['collections', 'read', 'checks', 'imported and held', 'freed']) {
      expect([what, counts[what] ?? 0]).not.toEqual([what, 0]);
    }
    if (process.env.SOAK_SECONDS) console.log(counts);
  },
  SECONDS * 1000 + 120_000,
);
