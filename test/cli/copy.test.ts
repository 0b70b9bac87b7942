import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { CLI, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { randomNumbers, SEED } from '../helpers/random.ts';
import { checkLocalStore, localStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { generateTree, writeTree } from '../helpers/trees.ts';

const full = (name: string) => storePathOf(name).absolute();

/** A store with a path `app` that refers to `lib`, and the address of an empty one. */
async function place(files = 100) {
  const dir = tempDir();
  const store = localStore(join(dir, 'from'));
  await putStorePath(store, 'lib', generateTree(files, 1));
  await putStorePath(store, 'app', generateTree(files, 2), { references: [storePathOf('lib')] });
  await store.close();
  return { dir, from: `local://${dir}/from`, to: `local://${dir}/to` };
}

const running = new Set<ReturnType<typeof spawn>>();
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
});

describe('copy', () => {
  test('takes references along, prints what it copied, and does not copy it again', async () => {
    const { dir, from, to } = await place();
    const copy = () => tvixStore(['copy', '--from', from, '--to', to, full('app')]);
    expect(await copy()).toMatchObject({ status: 0, stdout: `${full('lib')}\n${full('app')}\n` });
    expect(await checkLocalStore(join(dir, 'to'))).toEqual([full('app'), full('lib')].sort());
    const again = await copy();
    expect(again).toMatchObject({ status: 0, stdout: '' });
    expect(again.stderr).toContain('paths=0');
  });

  test('takes --store for the side that is not named', async () => {
    const { dir, from, to } = await place();
    const hash = storePathOf('lib').hashText;
    expect(await tvixStore(['copy', '--store', from, '--to', to, hash])).toMatchObject({ status: 0 });
    expect(
      await tvixStore(['copy', '--from', from, full('app')], { env: { ...process.env, TVIX_STORE: to } }),
    ).toMatchObject({
      status: 0,
      stdout: `${full('app')}\n`,
    });
    expect(await checkLocalStore(join(dir, 'to'))).toHaveLength(2);
  });

  test('tells with --dry-run what it would do, with sizes, and does nothing', async () => {
    const { dir, from, to } = await place();
    const before = await tvixStore(['copy', '--dry-run', '--from', from, '--to', to, full('app')]);
    expect(before.stdout).toMatch(new RegExp(`^${full('lib')} \\d+\n${full('app')} \\d+\n$`));
    expect(existsSync(join(dir, 'to'))).toBe(false);
    await tvixStore(['copy', '--from', from, '--to', to, full('lib')]);
    const dry = (...args: string[]) =>
      tvixStore(['copy', '--dry-run', ...args, '--from', from, '--to', to, full('app')]);
    expect((await dry()).stdout).toMatch(new RegExp(`^${full('app')} \\d+\n$`));
    const told = JSON.parse((await dry('--json')).stdout);
    expect(told).toEqual({
      paths: [{ path: full('app'), narSize: told.narSize }],
      narSize: expect.any(Number),
      present: 1,
      signed: 0,
    });
    expect(await checkLocalStore(join(dir, 'to'))).toEqual([full('lib')]);
  });

  test('goes to a daemon and comes from one', async () => {
    const { dir, from } = await place(300);
    const daemon = await startDaemon(`local://${dir}/far`, join(dir, 'socket'));
    const there = await tvixStore(['copy', '--from', from, '--to', daemon.url, full('app')]);
    expect(there).toMatchObject({ status: 0, stdout: `${full('lib')}\n${full('app')}\n` });
    const back = await tvixStore(['copy', '--from', daemon.url, '--to', `local://${dir}/back`, full('app')]);
    expect(back.stderr).not.toContain('Warning');
    expect(back.status).toBe(0);
    await daemon.stop();
    expect(await checkLocalStore(join(dir, 'back'))).toEqual([full('app'), full('lib')].sort());
    const gone = await tvixStore([
      'copy',
      '--dry-run',
      '--from',
      `${daemon.url}?wait-connect=1`,
      '--to',
      from,
      full('app'),
    ]);
    expect(gone.status).toBe(1);
  });

  test('says what it wants: what to copy, and where', async () => {
    const { from } = await place(1);
    const graph = ['--reference-graph', '-'];
    for (const args of [
      [],
      [full('a')],
      ['--to', from],
      [...graph, full('a')],
      [...graph, '--from', from],
      ['--from', '/gnu/store', full('a')],
    ]) {
      expect(await tvixStore(['copy', ...args])).toMatchObject({ status: 2, stdout: '' });
    }
    const absent = await tvixStore(['copy', '--from', from, '--to', 'memory:', full('nothing')]);
    expect(absent).toMatchObject({ status: 1 });
    expect(absent.stderr).toContain(full('nothing'));
  });

  test('leaves whole store paths when it is killed at any moment, and goes on from there', async () => {
    const { dir, from, to } = await place(2000);
    const random = randomNumbers(SEED);
    const start = () => {
      const child = spawn(process.execPath, [CLI, 'copy', '--from', from, '--to', to, full('app')], {
        stdio: 'ignore',
      });
      running.add(child);
      const ended = once(child, 'close').finally(() => running.delete(child));
      return { child, ended };
    };
    for (let kill = 0; kill < 8; kill++) {
      const { child, ended } = start();
      await delay(200 + random() * 900);
      child.kill('SIGKILL');
      await ended;
      const whole = await checkLocalStore(join(dir, 'to'));
      expect([[], [full('lib')], [full('app'), full('lib')].sort()]).toContainEqual(whole);
    }
    await start().ended;
    expect(await checkLocalStore(join(dir, 'to'))).toHaveLength(2);
  });
});

describe('a copy that is told to stop', () => {
  test('ends by the signal, and leaves the store as if it had been done a path less', async () => {
    const { dir, from, to } = await place(3000);
    const args = ['copy', '--from', from, '--to', to, full('app')];
    const child = spawn(process.execPath, [CLI, ...args], { stdio: 'ignore' });
    running.add(child);
    const sessions = join(dir, 'to/sessions');
    while (!existsSync(sessions) || readdirSync(sessions).length === 0) await delay(2);
    child.kill('SIGTERM');
    const [status, signal] = await once(child, 'close');
    running.delete(child);
    // It may have been done a moment before.
    expect(status === 0 ? 'SIGTERM' : signal).toBe('SIGTERM');
    expect(readdirSync(sessions)).toEqual([]);
    await checkLocalStore(join(dir, 'to'));
  });
});

describe('copy from files', () => {
  /** A folder of store paths, and what is told of them. */
  async function folder() {
    const dir = tempDir();
    const nixStore = join(dir, 'nix/store');
    mkdirSync(nixStore, { recursive: true });
    const memory = localStore(join(dir, 'scratch'));
    const told = [];
    for (const [name, references] of [
      ['lib', ['lib']],
      ['app', ['lib']],
    ] as const) {
      const tree = generateTree(50, name.length);
      const info = await putStorePath(memory, name, tree);
      writeTree(join(nixStore, String(info.storePath)), tree);
      told.push({
        path: full(name),
        narHash: `sha256-${Buffer.from(info.narSha256).toString('base64')}`,
        narSize: Number(info.narSize),
        closureSize: 1,
        references: references.map(full),
        deriver: `${full('deriver')}.drv`,
        signatures: [`key-1:${Buffer.alloc(64, 9).toString('base64')}`],
      });
    }
    await memory.close();
    const graph = join(dir, 'graph.json');
    const tell = (value: unknown) => writeFileSync(graph, JSON.stringify(value));
    tell({ closure: told });
    const copy = (...args: string[]) =>
      tvixStore([
        'copy',
        '--store',
        `local://${dir}/to`,
        '--from',
        nixStore,
        '--reference-graph',
        graph,
        ...args,
      ]);
    return { dir, nixStore, told, tell, copy };
  }

  test('takes a reference graph: its bytes, signatures and derivers, with .drv once', async () => {
    const { dir, copy } = await folder();
    expect(await copy()).toMatchObject({ status: 0, stdout: `${full('lib')}\n${full('app')}\n` });
    expect(await checkLocalStore(join(dir, 'to'))).toHaveLength(2);
    const { stdout } = await tvixStore(['path-info', '--json', '--store', `local://${dir}/to`, full('app')]);
    expect(JSON.parse(stdout)[full('app')]).toMatchObject({
      deriver: `${full('deriver')}.drv`,
      references: [full('lib')],
      signatures: [`key-1:${Buffer.alloc(64, 9).toString('base64')}`],
    });
  });

  test('names nothing whose NAR hash is another than was told, nor what refers to it', async () => {
    const { dir, nixStore, copy } = await folder();
    const changed = join(nixStore, String(storePathOf('lib')), 'new');
    chmodSync(join(changed, '..'), 0o755);
    writeFileSync(changed, '');
    const { status, stdout, stderr } = await copy();
    expect(stderr).toMatch(new RegExp(`${storePathOf('lib')}.* does not have the NAR hash`));
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(await checkLocalStore(join(dir, 'to'))).toEqual([]);
  });

  test('refuses a graph with a hole, or copies it without', async () => {
    const { told, tell, copy } = await folder();
    tell({ closure: told.slice(1) });
    const { status, stderr } = await copy();
    expect(status).toBe(1);
    expect(stderr).toContain(full('lib'));
    expect(await copy('--no-closure')).toMatchObject({ status: 0, stdout: `${full('app')}\n` });
  });
});
