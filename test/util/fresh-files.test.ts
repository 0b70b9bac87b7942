import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FreshFiles } from '../../src/util/system/fresh-files.ts';
import { tempDir } from '../helpers/temp.ts';

/** Both files, separated by a slash. Throws unless both say the same number. */
function pairIn(dir: string) {
  writeFileSync(join(dir, 'a'), 'a 1');
  writeFileSync(join(dir, 'b'), 'b 1');
  return new FreshFiles([join(dir, 'a'), join(dir, 'b')], ([a, b]) => {
    if (a!.at(-1) !== b!.at(-1)) throw new Error('they do not belong together');
    return `${a}/${b}`;
  });
}

test('files are taken when they have changed and stand still, whoever is in the middle of writing them', async () => {
  const dir = tempDir();
  const files = pairIn(dir);
  const after = async (change: () => void) => {
    change();
    await files.look();
    return files.get();
  };
  expect(await after(() => {})).toBe('a 1/b 1');
  // In place: emptied, half written, whole; and one after the other.
  for (const half of ['', 'a', 'a 2 and 2'])
    expect(await after(() => writeFileSync(join(dir, 'a'), half))).toBe('a 1/b 1');
  expect(await after(() => writeFileSync(join(dir, 'b'), 'b 2'))).toBe('a 1/b 1');
  expect(await after(() => {})).toBe('a 2 and 2/b 2');
  // Halves that do not belong together are not taken, however long they stand still.
  for (let i = 0; i < 3; i++)
    expect(await after(() => writeFileSync(join(dir, 'a'), 'a 3'))).toBe('a 2 and 2/b 2');
  writeFileSync(join(dir, 'new'), 'b 3');
  await after(() => renameSync(join(dir, 'new'), join(dir, 'b')));
  expect(await after(() => {})).toBe('a 3/b 3');
  await after(() => rmSync(join(dir, 'a')));
  expect(await after(() => {})).toBe('a 3/b 3');
});

test('a directory of files that is replaced by a link, as Kubernetes does, is taken as a whole', async () => {
  const dir = tempDir();
  for (const version of ['1', '2']) {
    mkdirSync(join(dir, version));
    writeFileSync(join(dir, version, 'token'), `token ${version}`);
  }
  symlinkSync('1', join(dir, '..data'));
  symlinkSync('..data/token', join(dir, 'token'));
  const files = new FreshFiles([join(dir, 'token')], ([token]) => token!.toString());
  symlinkSync('2', join(dir, '..new'));
  renameSync(join(dir, '..new'), join(dir, '..data'));
  await files.look();
  await files.look();
  expect(files.get()).toBe('token 2');
});
