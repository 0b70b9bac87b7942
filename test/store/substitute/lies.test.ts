import { brotliCompressSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Hash } from '../../../src/nix/hash.ts';
import type { NarInfoValues } from '../../../src/nix/narinfo/narinfo.ts';
import { zstdCompress } from '../../../src/util/compression/zstd.ts';
import type { TestPath, Twist } from '../../helpers/binary-cache.ts';
import { CacheServer, narOf, openCached, testPath } from '../../helpers/binary-cache.ts';
import { program } from '../../helpers/compress.ts';
import { randomBytes } from '../../helpers/random.ts';
import { checkComplete } from '../../helpers/services.ts';
import { directory, file } from '../../helpers/trees.ts';

const MIB = 1 << 20;
const tree = directory({ a: file('a file'), b: file(randomBytes(300_000, 'b'), true) });
const NAR = narOf(tree);
const honest = testPath('path', { tree });
const { hash, hashText } = honest.info.storePath;
const narInfoPath = `/${hashText}.narinfo`;
const narPath = `/${honest.info.url}`;
/** Without them, the file is only known by its NAR. */
const NO_FILE = { fileHash: undefined, fileSize: undefined };

/** Expects that a path is refused for this reason and is not there afterwards, and that the truth is taken. */
async function refused(arrange: (cache: CacheServer) => void, reason: RegExp, truth = honest): Promise<void> {
  const cache = await CacheServer.start([truth]);
  arrange(cache);
  const store = await openCached(cache.address);
  await expect(store.pathInfos.get(hash)).rejects.toThrow(reason);
  cache.twists.clear();
  cache.add(truth);
  await checkComplete(store, (await store.pathInfos.get(hash))!);
}

const lying = (lies: Partial<NarInfoValues>, options = {}) => testPath('path', { tree, lies, ...options });
const instead = (path: TestPath) => (cache: CacheServer) => cache.add(path);
const twisted = (path: string, twist: Twist) => (cache: CacheServer) => cache.twists.set(path, twist);

describe('a narinfo', () => {
  test('of another path is refused, also if it is signed', () => {
    const other = testPath('other');
    return refused((cache) => cache.files.set(narInfoPath, other.info.toString()), /another path/);
  });

  test('with another hash than the NAR has is refused', async () => {
    await refused(instead(lying({ narSha256: randomBytes(32) })), /its NAR has another hash/);
  });

  test('with another size than the NAR has is refused', async () => {
    await refused(instead(lying({ narSize: BigInt(NAR.length - 1) })), /longer than/);
    await refused(instead(lying({ narSize: BigInt(NAR.length + 1) })), /its NAR has \d+ bytes, want \d+/);
  });

  test('with another hash or size than the file has is refused', async () => {
    const packed = { compression: 'gzip', compress: gzipSync };
    const fileHash = Hash.compute('sha256', Buffer.from('x'));
    await refused(instead(lying({ fileHash }, packed)), /its file has another hash/);
    const fileSize = BigInt(gzipSync(NAR).length);
    await refused(instead(lying({ fileSize: fileSize - 1n }, packed)), /its file is longer/);
    await refused(instead(lying({ fileSize: fileSize + 1n }, packed)), /cut off after|its file has/);
  });

  test('that is none, or never ends, is refused', async () => {
    await refused((cache) => cache.files.set(narInfoPath, '<html>busy</html>\n'), /invalid narinfo/);
    await refused(twisted(narInfoPath, endless), /longer than 2097152 bytes/);
  });

  test('that names a compression nobody knows, or a file that is not there, is refused', async () => {
    await refused(instead(lying({ compression: 'lzip' })), /unknown compression "lzip"; known are none, xz/);
    await refused((cache) => cache.files.delete(narPath), /its NAR, "nar\/path.nar", is not there/);
  });

  test('is not believed where its URL leads off the web', async () => {
    for (const url of ['file:///etc/passwd', 'ftp://127.0.0.1/nar', 'http://[']) {
      await refused(instead(lying({ url })), /must not lead|no address/);
    }
  });
});

test('what is told of a file that is not compressed does not matter', async () => {
  for (const fileSize of [0n, 1n, BigInt(NAR.length - 1), 1n << 40n]) {
    const cache = await CacheServer.start([lying({ fileSize, fileHash: Hash.compute('md5', NAR) })]);
    const store = await openCached(cache.address);
    await checkComplete(store, (await store.pathInfos.get(hash))!);
  }
});

describe('a NAR', () => {
  test('that is cut short, or goes on, is refused', async () => {
    const short = NAR.subarray(0, 200_000);
    await refused(instead({ info: lying(NO_FILE).info, file: short }), /at byte 200000/);
    const long = Buffer.concat([NAR, Buffer.alloc(8)]);
    await refused(instead({ info: lying(NO_FILE).info, file: long }), /its NAR is longer/);
  });

  test('that never ends is left', async () => {
    await refused((cache) => {
      cache.add(lying(NO_FILE));
      cache.twists.set(narPath, endless);
    }, /longer than|byte/);
  });

  test('that is none is refused, with the place where it goes wrong', async () => {
    const file = Buffer.from(NAR);
    file[8] = 0x20;
    await refused(instead({ info: lying(NO_FILE).info, file }), /byte/);
  });

  test('that is not compressed as it should be is refused', async () => {
    for (const compression of ['xz', 'zstd', 'gzip', 'br', 'bzip2']) {
      await refused(instead(lying({ compression })), new RegExp(`${compression} data`));
    }
  });
});

describe('a bomb', () => {
  const { info } = lying({ ...NO_FILE, narSize: BigInt(MIB) });
  // The beginning of a NAR of a file of many zeros.
  const bomb = narOf(file(Buffer.alloc(16 * MIB))).subarray(0, -16);

  test.each([
    ['gzip', gzipSync],
    ['zstd', zstdCompress],
    ['br', brotliCompressSync],
    ['xz', program('xz', ['-1c'])],
    ['bzip2', program('bzip2', ['-c'])],
  ])('of %s is left when more has come than the NAR has', async (compression, compress) => {
    await refused(
      instead({ info: info.with({ compression }), file: compress(bomb) }),
      /its NAR is longer than 1048576 bytes/,
    );
  });
});

test('what is encoded again and again is refused', async () => {
  await refused(
    twisted(narInfoPath, (_, response) => {
      response.writeHead(200, { 'content-encoding': Array(3000).fill('br').join() }).end('x');
    }),
    /3000 content encodings/,
  );
});

test('a cache of another store directory is refused', async () => {
  const cache = await CacheServer.start([honest]);
  cache.files.set('/nix-cache-info', 'StoreDir: /gnu/store\nPriority: 1\n');
  const store = await openCached(cache.address);
  await expect(store.pathInfos.get(hash)).rejects.toThrow(/cache of "\/gnu\/store", not of \/nix\/store/);
});

function endless(_: unknown, response: Parameters<Twist>[1]): void {
  const send = () => {
    while (!response.destroyed && response.write(Buffer.alloc(64 * 1024, 'endless: x\n')));
  };
  response.on('drain', send);
  send();
}
