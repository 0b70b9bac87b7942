import { closeSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LocalBlobService } from '../../src/castore/blob/local.ts';
import { Digest } from '../../src/castore/digest.ts';
import { lockForDeleting } from '../../src/castore/local/collector.ts';
import { evict } from '../../src/castore/local/evictor.ts';
import { CacheFiller } from '../../src/castore/local/filler.ts';
import { Holds } from '../../src/castore/local/holds.ts';
import { RecentUse } from '../../src/castore/local/recent-use.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import { asBuffer } from '../../src/util/bytes.ts';
import { directoryOf } from '../contract/directories.ts';
import { randomBytes } from '../helpers/random.ts';
import { codeOf, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const CHUNK = 100_000;
const MINUTE = 60_000;

let store: LocalStore;
let filler: CacheFiller;
let uses: RecentUse;

beforeEach(() => {
  store = LocalStore.open(tempDir(), 'cache');
  filler = new CacheFiller(store.env);
  uses = new RecentUse(store.env);
  vi.useFakeTimers({ toFake: ['Date'] });
});
afterEach(async () => {
  vi.useRealTimers();
  await filler.close();
  await store.close();
});

const contents = (i: number) => randomBytes(CHUNK + i, `chunk ${i}`);
const digest = (i: number) => Digest.hash(contents(i));

/** Puts chunks one after the other, an hour between them. */
async function fill(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    vi.setSystemTime(Date.now() + 60 * MINUTE);
    await filler.chunk(digest(i), contents(i)).kept;
    uses.note(digest(i).bytes);
    await uses.flush();
  }
}

async function left(count: number): Promise<number[]> {
  const found = await Promise.all(
    Array.from({ length: count }, async (_, i) =>
      (await readBlob({ blobs: new LocalBlobService(store) }, digest(i))) ? [i] : [],
    ),
  );
  return found.flat();
}

test('a cache below its limit is left as it is', async () => {
  await fill(5);
  expect(await evict(store.env, uses, 1 << 20)).toMatchObject({ freed: 0 });
  expect(await left(5)).toEqual([0, 1, 2, 3, 4]);
});

test('what was used least recently goes, until there is some room again', async () => {
  await fill(20);
  for (const i of [0, 3]) uses.note(digest(i).bytes);
  vi.setSystemTime(Date.now() + 60 * MINUTE);
  await uses.flush();
  const { size, freed } = await evict(store.env, uses, 1 << 20);
  expect(size).toBeLessThanOrEqual((1 << 20) * 0.9);
  expect(freed).toBeGreaterThan(1_000_000);
  const remaining = await left(20);
  expect(remaining.slice(0, 2)).toEqual([0, 3]);
  expect(remaining.slice(2)).toEqual(
    Array.from({ length: remaining.length - 2 }, (_, i) => 22 - remaining.length + i),
  );
  const chunks = join(store.env.dir, 'chunks');
  const files = readdirSync(chunks, { recursive: true, encoding: 'utf8' });
  expect(files.filter((name) => statSync(join(chunks, name)).isFile()).length).toBe(remaining.length);
});

test('no more goes than has to, also of what was used in the same minute', async () => {
  for (let i = 0; i < 12; i++) {
    await filler.chunk(digest(i), contents(i)).kept;
    uses.note(digest(i).bytes);
  }
  await uses.flush();
  await evict(store.env, uses, 1 << 20);
  expect((await left(12)).length).toBeGreaterThan(6);
});

/** Those of which there is a row: a file that is open is read on. */
function rows(count: number): number[] {
  store.env.refresh();
  return Array.from({ length: count }, (_, i) => i).filter((i) => store.env.chunks.has(digest(i).bytes));
}

test('what somebody holds stays until nobody does', async () => {
  await fill(12);
  const holds = new Holds();
  const [one, other] = [holds.begin(), holds.begin()];
  one.add(digest(0).bytes);
  for (const i of [0, 1]) other.add(digest(i).bytes);
  await evict(store.env, uses, 0, holds);
  expect(rows(12)).toEqual([0, 1]);
  other.release();
  await evict(store.env, uses, 0, holds);
  expect(rows(12)).toEqual([0]);
  one.release();
  await evict(store.env, uses, 0, holds);
  expect(rows(12)).toEqual([]);
});

test('of what was used within a minute the oldest goes', async () => {
  await fill(4);
  for (let i = 0; i < 4; i++) {
    vi.setSystemTime(Date.now() + 1000);
    uses.note(digest(3 - i).bytes);
  }
  await evict(store.env, uses, 300_000);
  expect(await left(4)).toEqual([0, 1]);
});

test('what was evicted can be put again, chunk lists and directories too', async () => {
  const directory = directoryOf({ a: 'b' });
  const put = async () => {
    await filler.directory(directory.digest, directory.bytes);
    await filler.chunk(digest(0), contents(0)).kept;
    await filler.chunk(digest(1), contents(1)).kept;
    await filler.manifest(
      digest(2),
      [0, 1].map((i) => ({ digest: digest(i), size: CHUNK + i })),
    );
    await filler.row(store.env.table('provisional'), digest(2).bytes, Buffer.from([1]));
  };
  const isThere = () => {
    store.reader.refresh();
    return [
      store.reader.directory(directory.digest.bytes) !== undefined,
      store.reader.manifest(digest(2).bytes) !== undefined,
      store.reader.hasChunk(digest(0).bytes),
      store.env.table('provisional').get(asBuffer(digest(2).bytes)) !== undefined,
    ];
  };
  await put();
  expect(isThere()).toEqual([true, true, true, true]);
  await evict(store.env, uses, 0);
  expect(isThere()).toEqual([false, false, false, false]);
  await put();
  expect(isThere()).toEqual([true, true, true, true]);
});

test('one evicts at a time', async () => {
  const lock = lockForDeleting(store.env);
  expect(await codeOf(evict(store.env, uses, 0))).toBe('UNAVAILABLE');
  closeSync(lock);
});
