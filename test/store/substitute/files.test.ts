import { spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { TestPath } from '../../helpers/binary-cache.ts';
import { narOf, openCached, TRUSTED, testPath } from '../../helpers/binary-cache.ts';
import { checkComplete, codeOf } from '../../helpers/services.ts';
import { tempDir } from '../../helpers/temp.ts';
import { directory, file } from '../../helpers/trees.ts';

const path = testPath('path', { tree: directory({ a: file('a') }) });
const { hash, hashText } = path.info.storePath;

/** A cache in a directory that has this narinfo, and what `arrange` puts there. */
function cacheDir({ info, file: contents }: TestPath, arrange: (dir: string) => void = () => {}): string {
  const dir = tempDir();
  mkdirSync(join(dir, 'nar'));
  writeFileSync(join(dir, 'nix-cache-info'), 'StoreDir: /nix/store\n');
  writeFileSync(join(dir, `${hashText}.narinfo`), info.toString());
  writeFileSync(join(dir, 'nar/path.nar'), contents);
  arrange(dir);
  return dir;
}

const open = (dir: string) => openCached(`nix+file://${encodeURI(dir)}${TRUSTED}`);

test('a path is taken from a directory', async () => {
  const store = await open(cacheDir(path));
  await checkComplete(store, (await store.pathInfos.get(hash))!);
  expect(await store.pathInfos.get(testPath('missing').info.storePath.hash)).toBeUndefined();
});

test('a directory that is not there is an error, an empty one is not', async () => {
  const nowhere = await open(join(tempDir(), 'nowhere'));
  await expect(nowhere.pathInfos.get(hash)).rejects.toThrow(/nowhere is no directory/);
  const empty = await open(tempDir());
  expect(await empty.pathInfos.get(hash)).toBeUndefined();
});

describe('a cache that means harm', () => {
  const secret = join(tempDir(), 'secret.nar');
  writeFileSync(secret, narOf(directory({ secret: file('secret') })));

  /** Expects an error that comes soon and tells nothing of what it met. */
  async function harmless(evil: TestPath, arrange?: (dir: string) => void): Promise<void> {
    const store = await open(cacheDir(evil, arrange));
    await expect(store.pathInfos.get(hash)).rejects.toThrow(/^(?!.*root:).*$/s);
    expect(await codeOf(store.pathInfos.get(hash))).not.toBe('INTERNAL');
  }
  const withUrl = (url: string) => ({ ...path, info: path.info.with({ url }) });

  test('cannot name files outside', async () => {
    for (const url of [`../../..${secret}`, secret, 'nar/../../x', `file://${secret}`, '..', '/etc/passwd']) {
      await harmless(withUrl(url));
    }
  });

  test('cannot make us wait for a pipe, read a device or a directory, or go round', async () => {
    await harmless(withUrl('nar/pipe'), (dir) => spawnSync('mkfifo', [join(dir, 'nar/pipe')]));
    await harmless(withUrl('nar/zero'), (dir) => symlinkSync('/dev/zero', join(dir, 'nar/zero')));
    await harmless(withUrl('nar'));
    await harmless(withUrl('nar/round'), (dir) => symlinkSync('round', join(dir, 'nar/round')));
    await harmless(withUrl(`nar/${'long'.repeat(200)}`));
  });

  test('shows nothing of another file by a link to it', async () => {
    await harmless(withUrl('nar/link'), (dir) => symlinkSync('/etc/passwd', join(dir, 'nar/link')));
    await harmless(path, (dir) => {
      spawnSync('rm', [join(dir, `${hashText}.narinfo`)]);
      symlinkSync('/etc/passwd', join(dir, `${hashText}.narinfo`));
    });
  });
});
