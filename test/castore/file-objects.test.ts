import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { FileObjectStore } from '../../src/castore/objects/file.ts';
import { CLI, tvixStore } from '../helpers/cli.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';

/** Whether nobody holds a lock on a file. */
function isFree(path: string): boolean {
  return spawnSync('flock', ['-n', path, 'true']).status === 0;
}

const UNFINISHED = '.tvix-store-unfinished';

test('objects in a directory leave alone what is in there otherwise, however old and whatever its name', async () => {
  const dir = tempDir();
  for (const folder of ['tmp', UNFINISHED]) {
    mkdirSync(join(dir, folder));
    for (const name of ['notes', '0123456789abcdef0123456789abcdef', '1-0123456789abcdef']) {
      writeFileSync(join(dir, folder, name), 'kept');
      utimesSync(join(dir, folder, name), 1, 1);
    }
  }
  writeFileSync(join(dir, UNFINISHED, 'marker'), 'of somebody else');
  const before = readdirSync(dir, { recursive: true }).sort();
  const objects = await FileObjectStore.open(dir, true);
  expect(readdirSync(dir, { recursive: true }).sort()).toEqual(before);
  expect(await objects.put('a/b', Buffer.from('object'), 'absent')).toBe(true);
  expect(readdirSync(dir, { recursive: true }).sort()).toEqual([...before, 'a', 'a/b'].sort());
  expect(readFileSync(join(dir, UNFINISHED, 'marker'), 'utf8')).toBe('of somebody else');
});

test('what a killed writer left goes with the next write, and what a living one writes does not', async () => {
  const dir = tempDir();
  const large = join(dir, 'large');
  writeFileSync(large, randomBytes(20_000_000, 'large'));
  const target = join(dir, 'objects');
  const unfinished = () => readdirSync(join(target, UNFINISHED)).filter((name) => name !== 'marker');
  mkdirSync(join(target, UNFINISHED), { recursive: true });
  const args = ['import', '--store', `objectstore+file://${target}`];
  const child = spawn(process.execPath, [CLI, ...args, large], { stdio: 'ignore' });
  /** Files that a stopped writer holds. */
  let held: string[] = [];
  while (held.length === 0) {
    child.kill('SIGCONT');
    await delay(1);
    child.kill('SIGSTOP');
    while (!/^State:\s+T/m.test(readFileSync(`/proc/${child.pid}/status`, 'utf8'))) await delay(1);
    held = unfinished().filter((name) => !isFree(join(target, UNFINISHED, name)));
  }
  writeFileSync(join(dir, 'small'), 'small');
  expect((await tvixStore([...args, join(dir, 'small')])).status).toBe(0);
  expect(unfinished()).toEqual(expect.arrayContaining(held));
  child.kill('SIGKILL');
  await once(child, 'close');
  writeFileSync(join(dir, 'other'), 'other');
  expect((await tvixStore([...args, join(dir, 'other')])).status).toBe(0);
  expect(unfinished()).toEqual([]);
});
