import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { all, localStore, readBlob } from '../helpers/services.ts';

// In memory if that can be: there the holes of a sparse file cost nothing.
const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'tvix-store-test-'));
afterAll(() => rmSync(dir, { recursive: true }));

test('import takes a sparse file beyond 4 GiB', { timeout: 180_000 }, async () => {
  const [path, storeDir] = [join(dir, 'sparse'), join(dir, 'store')];
  const size = 4200 * 2 ** 20;
  writeFileSync(path, 'begin');
  truncateSync(path, size - 3);
  appendFileSync(path, 'end');
  const { status, stdout } = await tvixStore(['import', '--store', `local://${storeDir}`, path], {
    timeout: 170_000,
  });
  expect(status).toBe(0);
  const store = localStore(storeDir);
  const [info] = await all(store.pathInfos.list());
  expect(info?.storePath.absolute()).toBe(stdout.trim());
  expect(info?.narSize).toBe(BigInt(size) + 112n);
  if (info?.node.kind !== 'file') throw new Error('it is not a file');
  expect(info.node.size).toBe(BigInt(size));
  expect((await readBlob(store, info.node.digest, size - 5))?.toString()).toBe('\0\0end');
  await store.close();
  // Zeros are stored once: what lies in the store is next to nothing.
  const chunks = join(storeDir, 'chunks');
  const names = readdirSync(chunks, { recursive: true, encoding: 'utf8' }).map((name) => join(chunks, name));
  const sizes = names.map((name) => statSync(name)).map((entry) => (entry.isFile() ? entry.size : 0));
  expect(sizes.reduce((sum, one) => sum + one, 0)).toBeLessThan(4 << 20);
});
