import { statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { RootTable } from '../../src/store/keeping/roots.ts';
import { tvixStore } from '../helpers/cli.ts';
import { mount } from '../helpers/mount.ts';
import { localStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
const bucket = `objectstore+file://${dir}/bucket`;
const at = (name: string) => storePathOf(name).absolute();

/** What refers to what: two ways lead from app to lib. */
const REFERENCES: Record<string, string[]> = {
  lib: [],
  middle: ['lib', 'middle'],
  far: ['middle'],
  app: ['lib', 'far'],
  other: ['middle'],
  alone: [],
};

async function good(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await tvixStore(args);
  expect({ args, status, stderr }).toMatchObject({ status: 0 });
  return stdout;
}
const why = (name: string, ...flags: string[]) =>
  good('why', '--store', store, '--older-than', '0', ...flags, at(name));
const whyJson = async (name: string, ...flags: string[]) => JSON.parse(await why(name, '--json', ...flags));
const root = (...args: string[]) => good('root', ...args.slice(0, 1), '--store', store, ...args.slice(1));

beforeAll(async () => {
  const filled = localStore(join(dir, 'store'));
  for (const [name, references] of Object.entries(REFERENCES))
    await putStorePath(filled, name, directory({ name: file(name) }), {
      references: references.map(storePathOf),
    });
  await filled.close();
  await good('copy', '--from', store, '--to', bucket, '--all');
});

describe('why', () => {
  test('says that nothing holds a path, and how many refer to it', async () => {
    expect(await why('alone')).toBe(`freed  ${at('alone')}\tnothing holds it\n`);
    expect(await why('lib')).toBe(
      `freed  ${at('lib')}\tnothing holds it, nor any of the 2 that refer to it\n`,
    );
    expect(await whyJson('middle')).toEqual({
      path: at('middle'),
      kept: false,
      holds: [],
      referrers: expect.toSatisfy(
        (paths: string[]) => paths.toSorted().join() === [at('far'), at('other')].toSorted().join(),
      ),
    });
  });

  test('names roots, for how long they hold, and the shortest way from each', async () => {
    await root('add', 'release 1 ü', at('app'));
    await root('add', '--ttl', '7d', 'ci', at('other'));
    try {
      const lines = (await why('lib')).trimEnd().split('\n');
      const until = lines.pop();
      expect(lines).toEqual([
        `kept   ${at('lib')}`,
        `  ${at('app')}\theld by the root release 1 ü`,
        `    refers to ${at('lib')}`,
        expect.stringMatching(
          new RegExp(`^ {2}${at('other')}\\theld by the root ci until \\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z$`),
        ),
        `    refers to ${at('middle')}`,
      ]);
      expect(until).toBe(`    refers to ${at('lib')}`);
      const { kept, holds } = await whyJson('middle');
      expect(kept).toBe(true);
      expect(holds).toEqual([
        { kind: 'root', name: 'ci', expires: expect.any(String), chain: [at('other'), at('middle')] },
        { kind: 'root', name: 'release 1 ü', chain: [at('app'), at('far'), at('middle')] },
      ]);
      expect(await why('app')).toBe(`kept   ${at('app')}\n  ${at('app')}\theld by the root release 1 ü\n`);
    } finally {
      await root('remove', 'release 1 ü');
      await root('remove', 'ci');
    }
  });

  test('says of every path what a collection says', async () => {
    await root('add', 'far', at('far'));
    try {
      const gc = await good('gc', '--store', store, '--older-than', '0', '--dry-run');
      for (const name of Object.keys(REFERENCES)) {
        const verdict = (await why(name)).slice(0, `kept   ${at(name)}`.length);
        expect(gc.split('\n').map((line) => line.split('\t')[0])).toContain(verdict);
      }
      expect((await whyJson('far')).kept).toBe(true);
      expect((await whyJson('app')).kept).toBe(false);
    } finally {
      await root('remove', 'far');
    }
  });

  test('names a running mount in which a path was looked up, or one that refers to it', async () => {
    const mounted = await mount(['--store', store]);
    // By another process: this one must not wait for the mount.
    await tvixStore(['import', '--store', 'memory:', join(mounted.dir, storePathOf('far').toString())]);
    try {
      expect((await whyJson('lib')).holds).toEqual([
        { kind: 'mount', pid: mounted.pid, chain: [at('far'), at('middle'), at('lib')] },
      ]);
    } finally {
      await mounted.stop();
    }
    expect((await whyJson('lib')).holds).toEqual([]);
  });

  test('names a process that writes, and uses within the time that gc is given', async () => {
    // What came before the last collection is not held by who writes now.
    const collected = localStore(join(dir, 'store'));
    collected.local.env.bumpEpoch();
    await collected.close();
    const writing = localStore(join(dir, 'store'));
    await putStorePath(writing, 'written', directory({ name: file('written') }), {
      references: [storePathOf('alone')],
    });
    expect((await whyJson('written')).holds).toEqual([{ kind: 'writer', chain: [at('written')] }]);
    expect((await whyJson('alone')).holds).toEqual([{ kind: 'writer', chain: [at('written'), at('alone')] }]);
    await writing.close();
    expect((await whyJson('written')).holds).toEqual([]);
    const { holds } = await whyJson('alone', '--older-than', '1d');
    expect(holds).toEqual([
      { kind: 'use', secondsAgo: expect.any(Number), chain: [at('alone')] },
      { kind: 'use', secondsAgo: expect.any(Number), chain: [at('written'), at('alone')] },
    ]);
  });

  test('names ten that hold it, or all', async () => {
    const opened = localStore(join(dir, 'store'));
    const roots = new RootTable(opened.local.env);
    for (let i = 0; i < 12; i++) roots.add(`root-${i}`, storePathOf('alone'));
    await opened.close();
    const some = (await why('alone')).trimEnd().split('\n');
    expect(some).toHaveLength(12);
    expect(some.at(-1)).toBe('  and 2 more hold it: see --all');
    expect((await why('alone', '--all')).trimEnd().split('\n')).toHaveLength(13);
    expect((await whyJson('alone')).holds).toHaveLength(12);
  });

  test('works on a bucket', async () => {
    const inBucket = async (name: string, ...flags: string[]) =>
      JSON.parse(await good('why', '--store', bucket, '--json', ...flags, at(name)));
    expect((await inBucket('lib', '--older-than', '0')).holds).toEqual([]);
    expect((await inBucket('app')).holds).toEqual([
      { kind: 'upload', secondsAgo: expect.any(Number), chain: [at('app')] },
    ]);
    await good('root', 'add', '--store', bucket, 'kept', at('app'));
    expect((await inBucket('lib', '--older-than', '0')).holds).toEqual([
      { kind: 'root', name: 'kept', chain: [at('app'), at('lib')] },
    ]);
  });

  test('refuses what is not there, a cache, and a store that is elsewhere', async () => {
    const refused = async (...args: string[]) => {
      const { status, stderr } = await tvixStore(['why', ...args]);
      return [status, stderr.split('\n')[0]];
    };
    expect(await refused('--store', store, at('none'))).toEqual([
      1,
      `error: ${at('none')} is not in the store`,
    ]);
    expect(await refused('--store', 'grpc+http://127.0.0.1:1', at('lib'))).toEqual([
      2,
      expect.stringContaining('this works on a local store only'),
    ]);
    await tvixStore(['warm', '--store', bucket, '--cache', join(dir, 'cache'), at('lib')]);
    expect(statSync(join(dir, 'cache')).isDirectory()).toBe(true);
    expect(await refused('--store', `local://${dir}/cache`, at('lib'))).toEqual([
      1,
      expect.stringContaining('is a cache, in which nothing is held'),
    ]);
  });
});
