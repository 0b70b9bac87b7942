import { chmodSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { Directory } from '../../src/castore/directory.ts';
import { BOOT_TAG } from '../../src/castore/local/environment.ts';
import { CacheFiller } from '../../src/castore/local/filler.ts';
import { fileRow } from '../../src/castore/local/rows.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import type { Table, TableRow } from '../../src/castore/local/table.ts';
import { asBuffer } from '../../src/util/bytes.ts';
import { syncFileSystem } from '../../src/util/system/libc.ts';
import { directoryOf } from '../contract/directories.ts';
import { close, open } from '../helpers/local-store.ts';
import { randomBytes } from '../helpers/random.ts';
import { codeOf, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

vi.mock('../../src/util/system/libc.ts', async (original) => {
  const actual = await original<typeof import('../../src/util/system/libc.ts')>();
  return { ...actual, syncFileSystem: vi.fn(actual.syncFileSystem) };
});

afterEach(() => {
  vi.restoreAllMocks();
});

function chunkFiles(dir: string): string[] {
  const chunks = join(dir, 'chunks');
  const names = readdirSync(chunks, { recursive: true, encoding: 'utf8' }).map((name) => join(chunks, name));
  return names.filter((name) => statSync(name).isFile());
}

function keyCount(store: LocalStore, table: Table): number {
  store.env.refresh();
  return table.count;
}

function rowCounts(store: LocalStore) {
  const { chunks, manifests, directories } = store.env;
  return [chunks, manifests, directories].map((table) => keyCount(store, table));
}

describe('writing into a local store', () => {
  test('is seen by nobody before the flush where files are concerned, and by all after it', async () => {
    const { dir, blobs } = open();
    const large = await blobs.put(randomBytes(100_000, 'large'));
    const other = open(dir);
    expect(await other.blobs.chunks(large.digest)).toBeUndefined();
    await blobs.flush();
    expect(await other.blobs.chunks(large.digest)).toEqual([]);
    expect((await readBlob(other, large.digest))?.length).toBe(100_000);
  });

  test('is there when the store is opened again', async () => {
    const first = open();
    const contents = randomBytes(2_000_000, 'again');
    const { digest } = await first.blobs.put(contents);
    const directory = directoryOf({ a: 'b' });
    await first.directories.put(directory);
    await first.blobs.flush();
    await close(first.store);
    const second = open(first.dir);
    expect((await readBlob(second, digest))?.equals(contents)).toBe(true);
    expect((await second.directories.get(directory.digest))?.length).toBe(1);
  });

  test('leaves nothing behind when the store is closed without a flush', async () => {
    const { dir, store, blobs } = open();
    await blobs.put(randomBytes(3_000_000, 'unflushed'));
    expect(chunkFiles(dir).length).toBeGreaterThan(5);
    await close(store);
    expect(chunkFiles(dir)).toEqual([]);
    expect(rowCounts(open(dir).store)).toEqual([0, 0, 0]);
    expect(readdirSync(join(dir, 'sessions'))).toEqual([]);
  });

  test('keeps the same bytes once, in the same flush and later', async () => {
    const { dir, store, blobs, directories } = open();
    const contents = randomBytes(1_000_000, 'once');
    const small = randomBytes(1000, 'small');
    const put = async () => {
      for (let i = 0; i < 3; i++) {
        await blobs.put(contents);
        await blobs.put(small);
        await directories.put(directoryOf({ a: 'b' }));
      }
      await blobs.flush();
    };
    await put();
    const rows = rowCounts(store);
    const files = chunkFiles(dir);
    const chunks = (await blobs.chunks(Digest.hash(contents)))!.length;
    expect(rows).toEqual([chunks + 1, 1, 1]);
    expect(files.length).toBe(chunks);
    await put();
    expect(rowCounts(store)).toEqual(rows);
    expect(chunkFiles(dir)).toEqual(files);
  });

  test('tells the empty blob and the empty directory apart, which have the same digest', async () => {
    const { store, blobs, directories } = open();
    const empty = Directory.of([]);
    await blobs.put(new Uint8Array());
    await directories.put(empty);
    await blobs.flush();
    expect(rowCounts(store)).toEqual([1, 0, 1]);
    expect((await directories.get(empty.digest))?.length).toBe(0);
  });

  test('removes its own file when another process stored the same chunk first', async () => {
    const { dir, blobs } = open();
    const other = open(dir);
    const contents = randomBytes(100_000, 'race');
    await blobs.put(contents);
    await other.blobs.put(contents);
    expect(chunkFiles(dir).length).toBe(2);
    await Promise.all([blobs.flush(), other.blobs.flush()]);
    expect(chunkFiles(dir).length).toBe(1);
    expect((await readBlob({ blobs }, Digest.hash(contents)))?.equals(contents)).toBe(true);
  });

  test('puts files on disk before any row names them, and rows before it answers', async () => {
    const { store, blobs } = open();
    const seen: string[] = [];
    const rows = () => keyCount(store, store.env.chunks);
    vi.mocked(syncFileSystem).mockImplementationOnce(async () => {
      seen.push(`files synced, ${rows()} rows`);
    });
    const flushed = store.env.flushed.bind(store.env);
    vi.spyOn(store.env, 'flushed').mockImplementation(async () => {
      seen.push(`database flushed, ${rows()} rows`);
      await flushed();
    });
    for (let i = 0; i < 20; i++) await blobs.put(randomBytes(70_000, `file ${i}`));
    await blobs.flush();
    seen.push('answered');
    expect(seen).toEqual(['files synced, 0 rows', 'database flushed, 20 rows', 'answered']);
  });

  test('flushes once for all who ask while a flush is under way', async () => {
    const { dir, store, blobs } = open();
    const flushed = vi.spyOn(store.env, 'flushed');
    const stored = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const { digest } = await blobs.put(randomBytes(70_000, `coalesced ${i}`));
        await blobs.flush();
        expect(await open(dir).blobs.chunks(digest)).toEqual([]);
        return digest;
      }),
    );
    expect(stored.length).toBe(50);
    expect(flushed.mock.calls.length).toBeLessThanOrEqual(3);
  });

  test('takes far more than one transaction between flushes', async () => {
    const { store, blobs } = open();
    for (let i = 0; i < 400; i++) await blobs.put(randomBytes(50_000, `spilled ${i}`));
    await blobs.flush();
    expect(keyCount(store, store.env.chunks)).toBe(400);
    for (const i of [0, 84, 399]) {
      const contents = randomBytes(50_000, `spilled ${i}`);
      expect((await readBlob({ blobs }, Digest.hash(contents)))?.equals(contents)).toBe(true);
    }
  });

  test('takes older objects that it relies on into its epoch', async () => {
    const { dir, store, blobs } = open();
    const { digest } = await blobs.put(Buffer.from('old'));
    await blobs.flush();
    const epochOf = () => {
      store.env.refresh();
      return asBuffer(store.env.chunks.get(asBuffer(digest.bytes))!).readUInt32LE(0);
    };
    expect(epochOf()).toBe(1);
    await store.env.table('meta').put(Buffer.from('epoch'), Buffer.from('7'));
    const later = open(dir);
    await later.blobs.put(Buffer.from('old'));
    await later.blobs.flush();
    expect(epochOf()).toBe(7);
  });

  test('clears away the sessions of writers that have died', async () => {
    const { dir, blobs } = open();
    writeFileSync(join(dir, 'sessions', '1-dead'), '1\n');
    await blobs.put(Buffer.from('x'));
    const sessions = readdirSync(join(dir, 'sessions'));
    expect(sessions.length).toBe(1);
    expect(sessions).not.toContain('1-dead');
    expect(readFileSync(join(dir, 'sessions', sessions[0]!), 'utf8')).toBe('1\n');
  });
});

describe('a damaged local store', () => {
  /** A table's only row, and a way to replace it. */
  const onlyRow = (store: LocalStore, table: Table) => {
    store.env.refresh();
    const [{ key, value }] = [...table.rows()] as [TableRow];
    const row = Buffer.from(value);
    const digest = Digest.of(Uint8Array.from(key));
    const replace = async (damaged: Uint8Array) => {
      await table.put(asBuffer(digest.bytes), damaged);
      store.env.refresh();
    };
    return { row, digest, replace };
  };

  /** The row with each of its bytes changed behind the epoch, and cut at each length. */
  function* damages(row: Buffer): Generator<Buffer> {
    for (let i = 4; i < row.length; i++) {
      const damaged = Buffer.from(row);
      damaged[i] = damaged[i]! ^ 0xff;
      yield damaged;
    }
    for (let length = 0; length < row.length; length++) yield row.subarray(0, length);
  }

  test('says DATA_LOSS for the row of a chunk file', async () => {
    const { store, blobs } = open();
    await blobs.put(randomBytes(100_000, 'row'));
    await blobs.flush();
    const { row, digest, replace } = onlyRow(store, store.env.chunks);
    for (const damaged of damages(row)) {
      await replace(damaged);
      expect(await codeOf(blobs.chunks(digest))).toBe('DATA_LOSS');
      expect(await codeOf(blobs.read(digest))).toBe('DATA_LOSS');
    }
  });

  test('says DATA_LOSS for a chunk list', async () => {
    const { store, blobs } = open();
    await blobs.put(randomBytes(500_000, 'list'));
    await blobs.flush();
    const { row, digest, replace } = onlyRow(store, store.env.manifests);
    for (const damaged of damages(row)) {
      await replace(damaged);
      expect(await codeOf(blobs.chunks(digest))).toBe('DATA_LOSS');
    }
  });

  test('says DATA_LOSS for a directory, whether it can still be read or not', async () => {
    const { store, directories } = open();
    await directories.put(directoryOf({ name: 'target' }));
    await directories.flush();
    const { row, digest, replace } = onlyRow(store, store.env.directories);
    const other = Buffer.from(row);
    other[row.indexOf('target')] = 'T'.charCodeAt(0);
    for (const damaged of [...damages(row), other]) {
      await replace(damaged);
      expect(await codeOf(directories.get(digest))).toBe('DATA_LOSS');
    }
  });

  test('says DATA_LOSS for a chunk file that is gone or cut short', async () => {
    const { dir, store, blobs } = open();
    const { digest } = await blobs.put(randomBytes(100_000, 'gone'));
    await blobs.flush();
    await close(store);
    const again = open(dir);
    const [path] = chunkFiles(dir);
    chmodSync(path!, 0o644);
    truncateSync(path!, 50_000);
    expect(await codeOf(readBlob(again, digest))).toBe('DATA_LOSS');
    await close(again.store);
    rmSync(path!);
    expect(await codeOf(readBlob(open(dir), digest))).toBe('DATA_LOSS');
  });
});

describe('opening a local store', () => {
  test('refuses one of another format, and says which', async () => {
    const { dir, store } = open();
    await store.env.table('meta').put(Buffer.from('format'), Buffer.from('99'));
    await close(store);
    expect(() => LocalStore.open(dir, 'store')).toThrow(/format 99, this program knows 1/);
    expect(await codeOf(() => LocalStore.open(dir))).toBe('FAILED_PRECONDITION');
  });

  test('refuses a directory that holds none', async () => {
    expect(await codeOf(() => LocalStore.open(tempDir()))).toBe('NOT_FOUND');
    expect(await codeOf(() => LocalStore.open(join(tempDir(), 'missing')))).toBe('NOT_FOUND');
  });

  test('refuses a directory that cannot be made', async () => {
    const path = join(tempDir(), 'file');
    writeFileSync(path, '');
    expect(await codeOf(() => LocalStore.open(path, 'store'))).toBe('FAILED_PRECONDITION');
  });

  test('keeps the kind that it was made with', async () => {
    const { dir, store } = open(tempDir(), 'cache');
    await close(store);
    expect(open(dir, 'store').store.env.kind).toBe('cache');
  });
});

describe('a cache', () => {
  test('refuses acknowledged writes', async () => {
    const { blobs, directories } = open(tempDir(), 'cache');
    expect(await codeOf(blobs.put(Buffer.from('x')))).toBe('FAILED_PRECONDITION');
    expect(await codeOf(directories.put(directoryOf({})))).toBe('FAILED_PRECONDITION');
    expect(await codeOf(blobs.flush())).toBe('FAILED_PRECONDITION');
  });

  test('takes fills of chunks, chunk lists and directories', async () => {
    const { store, blobs, directories } = open(tempDir(), 'cache');
    const filler = new CacheFiller(store.env);
    const parts = [randomBytes(1000, 'part'), randomBytes(100_000, 'other part')];
    const whole = Buffer.concat(parts);
    for (const part of parts) await filler.chunk(Digest.hash(part), part).kept;
    await filler.manifest(
      Digest.hash(whole),
      parts.map((part) => ({ digest: Digest.hash(part), size: part.length })),
    );
    const directory = directoryOf({ a: 'b' });
    await filler.directory(directory.digest, directory.bytes);
    expect((await readBlob({ blobs }, Digest.hash(whole)))?.equals(whole)).toBe(true);
    expect((await directories.get(directory.digest))?.length).toBe(1);
    await filler.close();
  });

  test('is not to be filled when it is a store', async () => {
    expect(await codeOf(() => new CacheFiller(open().store.env))).toBe('FAILED_PRECONDITION');
  });

  test('hashes a file again that was filled before a reboot, and does not serve a torn one', async () => {
    const { dir, store } = open(tempDir(), 'cache');
    const filler = new CacheFiller(store.env);
    const [good, torn] = [randomBytes(100_000, 'good'), randomBytes(100_000, 'torn')];
    for (const bytes of [good, torn]) await filler.chunk(Digest.hash(bytes), bytes).kept;
    await filler.close();
    for (const path of chunkFiles(dir)) {
      const bytes = Digest.hash(readFileSync(path)).equals(Digest.hash(good)) ? good : torn;
      const row = fileRow(1, bytes.length, path.slice(-8), (BOOT_TAG ^ 2) >>> 0);
      await store.env.chunks.put(asBuffer(Digest.hash(bytes).bytes), row);
      if (bytes === torn) {
        rmSync(path);
        writeFileSync(path, Buffer.alloc(bytes.length));
      }
    }
    const { blobs } = open(dir, 'cache');
    expect((await readBlob({ blobs }, Digest.hash(good)))?.equals(good)).toBe(true);
    expect(await codeOf(readBlob({ blobs }, Digest.hash(torn)))).toBe('DATA_LOSS');
  });
});
