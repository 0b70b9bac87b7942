import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { parseMountOptions, splitOptions } from '../../src/fuse/mount-options.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
let name: string;

beforeAll(async () => {
  const tree = join(dir, 'tree');
  mkdirSync(join(tree, 'sub'), { recursive: true });
  writeFileSync(join(tree, 'program'), '#!/bin/sh\necho ran\n');
  chmodSync(join(tree, 'program'), 0o755);
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  name = stdout.trim().slice('/nix/store/'.length);
});

/** Source and options of a mount, as the kernel tells them. */
function told(at: string): { source: string; options: string[] } {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((one) => one.includes(` ${at} `))!;
  const [left, right] = line.split(' - ') as [string, string];
  const [, source, superOptions] = right.split(' ') as [string, string, string];
  return { source, options: [...left.split(' ')[5]!.split(','), ...superOptions.split(',')] };
}

describe.each(DRIVERS)('driver %s', (driver) => {
  const args = ['--store', store, '--driver', driver];

  test('-o gives options to the kernel, however often it stands there', async () => {
    const mounted = await mount([
      ...args,
      '-o',
      'noexec,fsname=my store',
      '-o',
      'ro,nosuid,noatime,allow_other',
    ]);
    const { source, options } = told(mounted.dir);
    expect(source).toBe('my\\040store');
    expect(options).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev', 'noexec', 'allow_other']));
    const { status } = await run('sh', ['-c', `exec ${mounted.dir}/${name}/program`]);
    expect(status).toBe(126);
    expect((await mounted.stop()).status).toBe(0);
  });
});

const knowsContexts = readFileSync('/proc/filesystems', 'utf8').includes('selinuxfs');
test.skipIf(knowsContexts)('what the kernel does not take is told, and nothing is mounted', async () => {
  const at = join(tempDir(), 'mnt');
  mkdirSync(at);
  const context = 'context="system_u:object_r:usr_t:s0:c1,c2"';
  const { status, stderr } = await tvixStore(['mount', '--store', store, '-o', context, at]);
  expect([status, stderr]).toEqual([1, expect.stringContaining(`this kernel does not take`)]);
  expect(stderr).toContain(context);
  expect(statSync(at).ino).not.toBe(1);
});

test('a list is cut at its commas, but not at those in quotes', () => {
  expect(splitOptions('a,,b="c,d",e')).toEqual(['a', 'b="c,d"', 'e']);
  expect(splitOptions('')).toEqual([]);
  expect(() => splitOptions('a="b,c')).toThrow('quote without an end');
});

test.each([
  ['rw', 'read-only'],
  ['suid', 'not possible'],
  ['dev', 'not possible'],
  ['remount', 'mount it again'],
  ['frobnicate', 'not known; known are ro, nosuid'],
  ['context', 'not known'],
  ['context=', 'not known'],
  ['fd=3', 'not known'],
  ['user_id=0', 'not known'],
  ['constructor', 'not known'],
])('the option %s is refused', (option, why) => {
  expect(() => parseMountOptions([option])).toThrow(why);
});
