import { execFile } from 'node:child_process';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { OutboardMaker } from '../../src/castore/bao/maker.ts';
import { Digest } from '../../src/castore/digest.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { tvix } from '../../src/proto/messages.ts';
import { encodePathInfo } from '../../src/store/path-info/message.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { directoryOf } from '../contract/directories.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { run } from '../helpers/cli.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { asked, chunk, chunkList, GET, READ, reads, STAT } from '../helpers/scripted-blobs.ts';
import type { ScriptedServer } from '../helpers/scripted-server.ts';
import { scriptedServer } from '../helpers/scripted-server.ts';
import { sha256 } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const { StatBlobResponse } = tvix.castore.v1;

describe('a mount of a server that lies', () => {
  /** Ends reading at the first error, and gives its name. */
  const readError = async (path: string): Promise<string> => {
    const { stderr } = await run('cat', [path]);
    return stderr.includes('Input/output error') ? 'EIO' : stderr;
  };
  let server: ScriptedServer;
  afterAll(() => server?.close());

  /** A server that offers one store path, with a file in it. */
  async function offering(contents: Digest, size: number): Promise<{ path: string; info: PathInfo }> {
    const info: PathInfo = {
      ...pathInfo('liar'),
      storePath: StorePath.of(randomBytes(20, 'liar'), 'liar'),
      node: { kind: 'file', digest: contents, size: BigInt(size), executable: false },
    };
    server = await scriptedServer({ 'PathInfoService/Get': () => [encodePathInfo(info)] });
    return { path: info.storePath.toString(), info };
  }
  const mountServer = (...args: string[]) =>
    mount(['--store', server.url, '--cache', join(tempDir(), 'cache'), ...args]);

  const right = randomBytes(3 << 20, 'large and right');
  const cut = 400_000;
  const parts = Array.from({ length: Math.ceil(right.length / cut) }, (_, i) =>
    right.subarray(i * cut, (i + 1) * cut),
  );
  /** As many bytes, every chunk what its digest says, and not the blob that was asked for. */
  const wrong = parts.map((part, i) => (i === 5 ? randomBytes(part.length, 'wrong') : part));

  test('gives EIO for a small file with wrong contents', async () => {
    const small = Buffer.from('as it should be');
    const { path } = await offering(Digest.hash(small), small.length);
    server.script[READ] = () => [chunk(Buffer.from('as it cannot be'))];
    const mounted = await mountServer();
    expect(await readError(join(mounted.dir, path))).toBe('EIO');
    server.script[READ] = () => Array.from({ length: 100 }, () => chunk(small.subarray(0, 15)));
    expect(await readError(join(mounted.dir, path))).toBe('EIO');
    const endless = chunk(randomBytes(1 << 20, 'endless'));
    server.script[READ] = () => Array.from({ length: 100 }, () => endless);
    expect(await readError(join(mounted.dir, path))).toBe('EIO');
    // And the truth when it is told.
    server.script[READ] = () => [chunk(small)];
    expect((await run('cat', [join(mounted.dir, path)])).stdout).toBe('as it should be');
    await mounted.stop();
    server.close();
  });

  const BAD_LISTS = {
    'that do not sum up': chunkList(...parts.slice(1)),
    'with a chunk that cannot be had': chunkList(
      ...parts.slice(0, -1),
      randomBytes(parts.at(-1)!.length, 'not to be had'),
    ),
  };
  test.each(Object.entries(BAD_LISTS))('gives EIO for chunk lists %s', async (_what, list) => {
    const { path } = await offering(Digest.hash(right), right.length);
    server.script[STAT] = () => list;
    server.script[READ] = reads(...parts);
    const mounted = await mountServer();
    expect(await readError(join(mounted.dir, path))).toBe('EIO');
    // A bit may have changed on the way: the list is not kept.
    server.script[STAT] = () => chunkList(...parts);
    const { stdout } = await run('sha256sum', [join(mounted.dir, path)]);
    expect(stdout.split(' ')[0]).toBe(sha256(right).toString('hex'));
    await mounted.stop();
    server.close();
  });

  test('gives EIO for a chunk with wrong contents', async () => {
    const { path } = await offering(Digest.hash(right), right.length);
    server.script[STAT] = () => chunkList(...parts);
    server.script[READ] = (request) => {
      const digest = asked(request);
      return digest.equals(Digest.hash(parts[5]!)) ? [chunk(wrong[5]!)] : reads(...parts)(request);
    };
    const mounted = await mountServer();
    expect(await readError(join(mounted.dir, path))).toBe('EIO');
    await mounted.stop();
    server.close();
  });

  test('takes back what it served when all chunks are right and the whole is wrong', async () => {
    const { path } = await offering(Digest.hash(right), right.length);
    server.script[STAT] = () => chunkList(...wrong);
    server.script[READ] = reads(...wrong);
    const mounted = await mountServer();
    const file = join(mounted.dir, path);
    await run('cat', [file]);
    // Found out a moment after the last chunk is there.
    await expect.poll(() => readError(file), { timeout: 10_000, interval: 100 }).toBe('EIO');
    const part = ['-c', `head -c 1000 ${file} | wc -c`];
    expect((await run('sh', part)).stdout.trim()).toBe('0');
    const { log } = await mounted.stop();
    expect(log).toContain('taken back');
    expect(log).toContain(server.url);
    server.close();
  });

  describe('to somebody who has the outboard', () => {
    const { digest, outboard } = new OutboardMaker().update(right).finish();
    const another = new OutboardMaker().update(Buffer.concat(wrong)).finish();
    /** What comes before the reader gets an error, as far as it goes. */
    const readable = async (path: string) => {
      const { stdout, stderr } = await promisify(execFile)('cat', [path], {
        encoding: 'buffer',
        maxBuffer: 1 << 26,
        timeout: 60_000,
      }).catch((error) => error as { stdout: Buffer; stderr: Buffer });
      return { bytes: stdout, isWhole: stderr.length === 0 };
    };
    const stat = (list: readonly Uint8Array[], bao: Uint8Array) => () => [
      Buffer.concat([...chunkList(...list), StatBlobResponse.encode({ bao }).finish()]),
    ];

    test('nothing is served of a wrong list but what is right', async () => {
      const { path } = await offering(digest, right.length);
      server.script[STAT] = stat(wrong, outboard);
      server.script[READ] = reads(...wrong);
      const mounted = await mountServer();
      const { bytes, isWhole } = await readable(join(mounted.dir, path));
      expect(isWhole).toBe(false);
      expect(bytes.equals(right.subarray(0, bytes.length))).toBe(true);
      // Who tells the truth is believed at once.
      server.script[STAT] = stat(parts, outboard);
      server.script[READ] = reads(...parts);
      expect((await readable(join(mounted.dir, path))).bytes.equals(right)).toBe(true);
      const { log } = await mounted.stop();
      expect(log).toContain('lies about blob');
      expect(log).toContain(server.url);
      server.close();
    });

    test.each([
      ['another blob', another.outboard],
      ['nothing', Buffer.alloc(outboard.length)],
      ['something shorter', outboard.subarray(64)],
    ])('by an outboard of %s nothing is served that is wrong, and all that is right', async (_what, bao) => {
      const { path } = await offering(digest, right.length);
      server.script[STAT] = stat(wrong, bao);
      server.script[READ] = reads(...wrong);
      let mounted = await mountServer();
      expect((await readable(join(mounted.dir, path))).bytes.length).toBe(0);
      await mounted.stop();
      server.script[STAT] = stat(parts, bao);
      server.script[READ] = reads(...parts);
      mounted = await mountServer();
      expect(await readable(join(mounted.dir, path))).toEqual({ bytes: right, isWhole: true });
      const { log } = await mounted.stop();
      expect(log).toMatch(/^warn: the outboard of blob .* is damaged/m);
      expect(log).toContain(server.url);
      server.close();
    });

    test('a part is proven by itself, and the rest need not be right', async () => {
      const { path } = await offering(digest, right.length);
      server.script[STAT] = stat(wrong, outboard);
      server.script[READ] = reads(...wrong);
      const mounted = await mountServer();
      const tail = ['-c', `tail -c 500000 ${join(mounted.dir, path)} | sha256sum`];
      expect((await run('sh', tail)).stdout.slice(0, 64)).toBe(
        sha256(right.subarray(-500_000)).toString('hex'),
      );
      await mounted.stop();
      server.close();
    });
  });

  describe('about a file that is read in order', () => {
    const long = randomBytes(16 << 20, 'long and right');
    const cuts = Array.from({ length: long.length / (256 << 10) }, (_, i) =>
      long.subarray(i * (256 << 10), (i + 1) * (256 << 10)),
    );
    const but = (wrongAt: number) =>
      cuts.map((part, i) => (i === wrongAt ? randomBytes(part.length, 'wrong') : part));
    const digest = Digest.hash(long);
    let path: string;
    let streams: number;

    beforeEach(async () => {
      streams = 0;
      ({ path } = await offering(digest, long.length));
    });
    /** Answers for the whole, and counts that; else for the chunks. */
    const serve = (whole: () => Uint8Array[], chunks: readonly Uint8Array[]) => {
      server.script[STAT] = () => chunkList(...chunks);
      const read = reads(...chunks);
      server.script[READ] = (request) => {
        if (!asked(request).equals(digest)) return read(request);
        streams++;
        return whole();
      };
    };

    test.each([0, 40])(
      'takes it back when the list is wrong and the whole right, at chunk %i',
      async (at) => {
        serve(() => cuts.map(chunk), but(at));
        const mounted = await mountServer();
        const file = join(mounted.dir, path);
        await run('cat', [file]);
        await expect.poll(() => readError(file), { timeout: 10_000, interval: 100 }).toBe('EIO');
        expect(streams).toBeGreaterThan(0);
        expect((await mounted.stop()).log).toContain('taken back');
        server.close();
      },
    );

    test.each([
      ['has a wrong chunk', () => but(40).map(chunk)],
      ['ends early', () => cuts.slice(0, 30).map(chunk)],
      ['goes on for too long', () => [...cuts, cuts[0]!].map(chunk)],
      ['says nothing', () => []],
    ])('serves the right one by its chunks when the whole %s', async (_what, whole) => {
      serve(whole, cuts);
      const mounted = await mountServer();
      const { stdout } = await run('sh', ['-c', `sha256sum < ${join(mounted.dir, path)}`]);
      expect(stdout.split(' ')[0]).toBe(sha256(long).toString('hex'));
      expect(streams).toBeGreaterThan(0);
      await mounted.stop();
      server.close();
    });
  });

  test('has a large file sent as a whole when a second read comes before the first has its answer', async () => {
    const cuts = Array.from({ length: 64 }, (_, i) => randomBytes(256 << 10, `cut ${i}`));
    const whole = Buffer.concat(cuts);
    const digest = Digest.hash(whole);
    const { path } = await offering(digest, whole.length);
    const forAll = Promise.withResolvers<void>();
    const read = reads(...cuts);
    server.script[STAT] = () => chunkList(...cuts);
    server.script[READ] = async (request) => {
      if (asked(request).equals(digest)) {
        forAll.resolve();
        return cuts.map(chunk);
      }
      await forAll.promise;
      return read(request);
    };
    const mounted = await mountServer();
    const readMiB = async (at: number) => {
      const handle = await open(join(mounted.dir, path));
      const { buffer } = await handle.read(Buffer.alloc(1 << 20), 0, 1 << 20, at << 20);
      await handle.close();
      return buffer.equals(whole.subarray(at << 20, (at + 1) << 20));
    };
    const first = readMiB(0);
    await expect.poll(() => server.calls.get(READ), { timeout: 10_000 }).toBe(4);
    expect(await Promise.all([first, readMiB(1)])).toEqual([true, true]);
    await mounted.stop();
    server.close();
  });

  test('takes it back also when it was read in pieces, by several readers', async () => {
    const { path } = await offering(Digest.hash(right), right.length);
    server.script[STAT] = () => chunkList(...wrong);
    server.script[READ] = reads(...wrong);
    const mounted = await mountServer();
    const file = join(mounted.dir, path);
    const handle = await open(file);
    const buffer = Buffer.alloc(1000);
    for (const at of [2_900_000, 10, 1_700_000, 900_000, 2_100_000, 1_300_000, 500_000, 2_500_000])
      await handle.read(buffer, 0, 1000, at).catch(() => {});
    await expect.poll(() => readError(file), { timeout: 10_000, interval: 100 }).toBe('EIO');
    await expect(handle.read(buffer, 0, 1000, 10)).rejects.toThrow('EIO');
    await handle.close();
    await mounted.stop();
    server.close();
  });

  test('serves not one byte of it with --verify=whole', async () => {
    const { path } = await offering(Digest.hash(right), right.length);
    server.script[STAT] = () => chunkList(...wrong);
    server.script[READ] = reads(...wrong);
    const mounted = await mountServer('--verify=whole');
    const file = join(mounted.dir, path);
    for (const command of [`head -c 1 ${file}`, `cat ${file}`, `tail -c 1 ${file}`]) {
      const { stdout, stderr } = await run('sh', ['-c', `${command} | wc -c`]);
      expect([stdout.trim(), stderr]).toEqual(['0', expect.stringContaining('Input/output error')]);
    }
    await mounted.stop();
    server.close();
  });

  test('serves the right file with --verify=whole', async () => {
    const { path } = await offering(Digest.hash(right), right.length);
    server.script[STAT] = () => chunkList(...parts);
    server.script[READ] = reads(...parts);
    const mounted = await mountServer('--verify=whole');
    const { stdout } = await run('sh', ['-c', `sha256sum < ${join(mounted.dir, path)}`]);
    expect(stdout.split(' ')[0]).toBe(sha256(right).toString('hex'));
    await mounted.stop();
    server.close();
  });

  test('gives EIO for directories that are not what was asked for', async () => {
    const leaf = directoryOf({ link: 'target' });
    const root = directoryOf({ leaf });
    const { path, info } = await offering(root.digest, 0);
    const node = { kind: 'directory' as const, digest: root.digest, size: root.size };
    server.script['PathInfoService/Get'] = () => [encodePathInfo({ ...info, node })];
    server.script[GET] = () => [leaf.bytes];
    const mounted = await mountServer();
    const list = (what: string) => run('ls', [join(mounted.dir, path, what)]);
    expect((await list('')).stderr).toContain('Input/output error');
    server.script[GET] = () => [root.bytes, leaf.bytes];
    expect((await list('')).stdout).toBe('leaf\n');
    expect((await list('leaf')).stdout).toBe('link\n');
    await mounted.stop();
    server.close();
  });
});
