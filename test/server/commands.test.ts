import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { checkLocalStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, writeTree } from '../helpers/trees.ts';

/** What a connection and a few small calls cost. */
const TALK = 16 * 1024;
/** As long as a command with nothing to do may take on a busy machine, in milliseconds. */
const PROMPT_MS = 30_000;

const dir = tempDir();
const tree = join(dir, 'tree');
let daemon: TestDaemon;
let proxy: TcpProxy;
let imported: string;

beforeAll(async () => {
  writeTree(
    tree,
    directory({
      generated: generateTree(200, 3),
      empty: directory(),
      large: file(randomBytes(3_000_000, 'large')),
      small: file('small'),
    }),
  );
  daemon = await startDaemon(`local://${dir}/store`);
  proxy = await TcpProxy.start(daemon.port);
  const { stdout, stderr } = await tvixStore(['import', '--store', proxy.url, tree]);
  expect(stderr).toBe('');
  imported = stdout.trim();
});
afterAll(async () => {
  proxy.close();
  await daemon.stop('SIGKILL');
});

/** Runs a command on the far store; it must end by itself soon after its work is done. */
async function remotely(...args: string[]) {
  const begun = Date.now();
  const [command, ...rest] = args as [string, ...string[]];
  const { status, stdout, stderr } = await tvixStore([command, '--store', proxy.url, ...rest]);
  expect(Date.now() - begun).toBeLessThan(PROMPT_MS);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

test('what is imported into a far store is there as a whole, under the same name', async () => {
  const local = await tvixStore(['import', '--store', `local://${dir}/other`, tree]);
  expect(local.stdout.trim()).toBe(imported);
  expect(await checkLocalStore(`${dir}/store`)).toContain(imported);
});

test('importing it again sends nothing', async () => {
  const { result, up } = await proxy.count(() => remotely('import', tree));
  expect(result.trim()).toBe(imported);
  expect(up).toBeLessThan(TALK);
});

test('importing what is there but for a little sends little', async () => {
  const changed = join(dir, 'changed');
  mkdirSync(changed);
  await run('cp', ['-rT', tree, changed]);
  writeFileSync(join(changed, 'small'), 'changed');
  const { result, up } = await proxy.count(() => remotely('import', '--name', 'tree', changed));
  expect(result.trim()).not.toBe(imported);
  // Small blobs and directories are just sent; the large one is asked for.
  expect(up).toBeLessThan(3_000_000);
  expect(await checkLocalStore(`${dir}/store`)).toContain(result.trim());
});

test('ls, cat and path-info read a far store', async () => {
  const local = ['--store', `local://${dir}/store`];
  for (const args of [
    ['ls', imported],
    ['ls', '-lR', imported],
    ['path-info', imported],
    ['path-info', '--json', imported],
  ] as [string, ...string[]][]) {
    const [command, ...rest] = args;
    const { stdout } = await tvixStore([command, ...local, ...rest]);
    expect(await remotely(...args)).toBe(stdout);
  }
  expect(await remotely('cat', `${imported}/small`)).toBe('small');
  expect(await remotely('ls')).toContain(imported.slice('/nix/store/'.length));
});

test('a far store serves another daemon, which serves in turn', async () => {
  const middle = await startDaemon(proxy.url);
  const { stdout } = await tvixStore(['ls', '-lR', '--store', middle.url, imported]);
  expect(stdout).toBe(await remotely('ls', '-lR', imported));
  const text = join(dir, 'through');
  writeFileSync(text, 'through two daemons');
  const path = (await tvixStore(['import', '--store', middle.url, text])).stdout.trim();
  expect(await remotely('cat', path)).toBe('through two daemons');
  expect(await middle.stop()).toBe(0);
});

test('an import that fails half-way ends at once, and nothing is registered', async () => {
  const broken = join(dir, 'broken');
  mkdirSync(join(broken, 'z'), { recursive: true });
  mkdirSync(join(broken, 'a'));
  writeFileSync(join(broken, 'a/large'), randomBytes(2_000_000, 'half-way'));
  await run('mkfifo', [join(broken, 'z/fifo')]);
  const before = await remotely('ls');
  const begun = Date.now();
  const { status, stderr } = await tvixStore(['import', '--store', proxy.url, broken]);
  expect(status).toBe(1);
  expect(stderr).toContain('fifo');
  expect(Date.now() - begun).toBeLessThan(PROMPT_MS);
  expect(await remotely('ls')).toBe(before);
});

test('a store that is not there is told by its name', async () => {
  const nowhere = 'grpc+http://127.0.0.1:1';
  await Promise.all(
    [['ls'], ['import', tree], ['path-info', imported]].map(async ([command, ...rest]) => {
      const { status, stderr } = await tvixStore([command!, '--store', nowhere, ...rest]);
      expect(status).toBe(1);
      expect(stderr).toContain(nowhere);
    }),
  );
});
