import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { encodeBase32 } from '../../src/nix/base32.ts';
import { Hash } from '../../src/nix/hash.ts';
import { SecretKey } from '../../src/nix/key.ts';
import type { NarInfoValues } from '../../src/nix/narinfo/narinfo.ts';
import { NarInfo } from '../../src/nix/narinfo/narinfo.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { decompress, parseCompression } from '../../src/util/compression/decompress.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { http } from '../helpers/http.ts';
import { lz4Compress } from '../helpers/lz4.ts';
import { narOf } from '../helpers/nar.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, checkLocalStore, localStore, sha256 } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree } from '../helpers/trees.ts';

const dir = tempDir();
let bridge: TestDaemon;
let made = 0;

beforeAll(async () => {
  bridge = await startNarBridge(`local://${dir}/store`);
});

/** A NAR that nobody has uploaded. */
const newNar = () => narOf(directory({ one: file(`contents ${made++}`), sub: directory({ two: file('') }) }));
const hashName = (bytes: Uint8Array) => encodeBase32(sha256(bytes));

function narInfoOf(nar: Uint8Array, values: Partial<NarInfoValues> = {}): NarInfo {
  const storePath = StorePath.of(randomBytes(20, `${hashName(nar)}`), 'uploaded');
  return NarInfo.of({
    storePath,
    url: `nar/${hashName(nar)}.nar`,
    compression: 'none',
    fileHash: Hash.compute('sha256', nar),
    fileSize: BigInt(nar.length),
    narSha256: sha256(nar),
    narSize: BigInt(nar.length),
    references: [],
    signatures: [],
    ...values,
  });
}

/** How it is reached, if not by its port. */
const over = ({ at }: { at: string }) => (at.startsWith('/') ? { socketPath: at } : {});
const put = (path: string, body: Uint8Array | string, to = bridge) =>
  http(to.port, path, { method: 'PUT', body, ...over(to) });
const putNar = (nar: Uint8Array, to = bridge) => put(`/nar/${hashName(nar)}.nar`, nar, to);
const putInfo = (info: NarInfo, to = bridge) =>
  put(`/${info.storePath.hashText}.narinfo`, info.toString(), to);
const getInfo = async ({ storePath }: NarInfo, to = bridge) => {
  const { status, body } = await http(to.port, `/${storePath.hashText}.narinfo`, over(to));
  return status === 200 ? NarInfo.parse(body) : undefined;
};
/** The reason for which something is refused. */
const refused = async (answer: ReturnType<typeof put>, status = 400) => {
  const got = await answer;
  expect([got.status, got.body.toString()]).toEqual([status, expect.stringMatching(/./)]);
  return got.body.toString();
};

describe('a NAR', () => {
  test('is known by its hash once it has been uploaded', async () => {
    const nar = newNar();
    const path = `/nar/${hashName(nar)}.nar`;
    const ask = (method: string) => http(bridge.port, path, { method });
    expect((await ask('HEAD')).status).toBe(404);
    expect((await putNar(nar)).status).toBe(200);
    expect((await ask('HEAD')).status).toBe(200);
    expect((await ask('GET')).body.equals(nar)).toBe(true);
  });

  test('is refused under another hash', async () => {
    const nar = newNar();
    expect(await refused(put(`/nar/${'0'.repeat(52)}.nar`, nar))).toContain('another SHA-256');
    expect(await refused(put(`/nar/${'z'.repeat(52)}.nar`, nar))).toContain('no SHA-256');
    expect((await http(bridge.port, `/nar/${hashName(nar)}.nar`)).status).toBe(404);
  });

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['no NAR', Buffer.from('this is not a NAR, but it is long enough')],
    ['a NAR that is cut short', narOf(file('contents')).subarray(0, -8)],
    ['a NAR with something behind it', Buffer.concat([narOf(file('contents')), Buffer.alloc(8)])],
    ['a NAR of a name that leads away', narOf(directory({ ab: file() })).fill('../'.slice(0, 2), 104, 106)],
  ])('is refused when it is %s', async (_name, bytes) => {
    expect(await refused(putNar(bytes))).toMatch(/NAR/);
  });

  const PACKED: [string, string, (nar: Buffer) => Buffer][] = [
    ['xz', '.xz', (input) => spawnSync('xz', ['-c'], { input }).stdout],
    ['zstd', '.zst', (input) => spawnSync('zstd', ['-c'], { input }).stdout],
    ['gzip', '', (input) => gzipSync(input)],
    ['bzip2', '.bz2', (input) => spawnSync('bzip2', ['-c'], { input }).stdout],
    ['lz4', '.lz4', lz4Compress],
    ['br', '.br', (input) => brotliCompressSync(input)],
  ];
  test.each(PACKED)('may be compressed by %s, and is had by that name, too', async (how, ending, pack) => {
    const nar = newNar();
    const packed = pack(nar);
    const path = `/nar/${hashName(packed)}.nar${ending}`;
    expect((await http(bridge.port, path, { method: 'HEAD' })).status).toBe(404);
    expect((await put(path, packed)).status).toBe(200);
    const got = await http(bridge.port, path);
    const unpacked = decompress(parseCompression(how), Readable.from([got.body]));
    expect(Buffer.concat(await all(unpacked)).equals(nar)).toBe(true);
    const { headers } = await http(bridge.port, path, { method: 'HEAD' });
    expect(headers['content-length']).toBe(String(got.body.length));
    const part = await http(bridge.port, path, { headers: { range: 'bytes=9-' } });
    expect([part.status, part.body.equals(got.body.subarray(9))]).toEqual([206, true]);
    expect((await http(bridge.port, `/nar/${hashName(nar)}.nar`)).body.equals(nar)).toBe(true);
  });

  test.each(PACKED)(
    'that is damaged, or under a wrong name, is refused by %s',
    async (_how, ending, pack) => {
      const packed = pack(newNar());
      const cut = packed.subarray(0, -9);
      await refused(put(`/nar/${hashName(cut)}.nar${ending}`, cut));
      await refused(put(`/nar/${'0'.repeat(52)}.nar${ending}`, packed));
      const noNar = pack(Buffer.from('this is not a NAR, but it is long enough'));
      await refused(put(`/nar/${hashName(noNar)}.nar${ending}`, noNar));
    },
  );

  test('in a form that is not taken gets 415, and what to do', async () => {
    const nar = newNar();
    expect(await refused(put(`/nar/${hashName(nar)}.nar.lzip`, nar), 415)).toContain('?compression=none');
    const lzma = Buffer.from('5d00008000ffffffffffffffff', 'hex');
    expect(await refused(put(`/nar/${hashName(lzma)}.nar`, lzma), 415)).toContain('lzma');
    const encoded = http(bridge.port, `/nar/${hashName(nar)}.nar`, {
      method: 'PUT',
      body: gzipSync(nar),
      headers: { 'content-encoding': 'gzip' },
    });
    expect(await refused(encoded, 415)).toContain('Content-Encoding');
  });
});

describe('a narinfo', () => {
  test('is kept, and what we do not know of it', async () => {
    const nar = newNar();
    await putNar(nar);
    const key = SecretKey.generate('test');
    const values = narInfoOf(nar, {
      system: 'x86_64-linux',
      deriver: StorePath.of(randomBytes(20, 'd'), 'made'),
    });
    const text = `${values.with({ signatures: [key.sign(values)] })}Unknown: something\nOther:  else\n`;
    const info = NarInfo.parse(Buffer.from(text));
    expect((await putInfo(info)).status).toBe(200);
    const kept = await getInfo(info);
    const here = { url: kept!.url, fileHash: undefined };
    const lines = (one: NarInfo) => one.toString().split('\n').sort();
    expect(lines(kept!)).toEqual(lines(info.with(here)));
    expect(key.publicKey.verify(kept!, kept!.signatures[0]!)).toBe(true);
  });

  test('does not contradict what has become known since', async () => {
    const nar = newNar();
    await putNar(nar);
    const info = narInfoOf(nar);
    const text = `${info}Deriver: ${'0'.repeat(32)}-name\nCA: \nX: 1\n`;
    expect((await put(`/${info.storePath.hashText}.narinfo`, text)).status).toBe(200);
    const get = async () => (await http(bridge.port, `/${info.storePath.hashText}.narinfo`)).body.toString();
    expect(await get()).toContain(`Deriver: ${'0'.repeat(32)}-name\n`);
    const store = localStore(`${dir}/store`);
    const deriver = StorePath.of(randomBytes(20, 'deriver'), 'name');
    await store.pathInfos.put({ ...(await store.pathInfos.get(info.storePath.hash))!, deriver });
    await store.close();
    expect((await get()).match(/^Deriver: .*$/gm)).toEqual([`Deriver: ${deriver}.drv`]);
    expect(await get()).toContain('X: 1\n');
  });

  test('put again adds its signatures, from whoever and at once', async () => {
    const nar = newNar();
    await putNar(nar);
    const keys = Array.from({ length: 10 }, (_, i) => SecretKey.generate(`test-${i}`));
    const info = narInfoOf(nar);
    const signed = keys.map((key) => info.with({ signatures: [key.sign(info)] }));
    const answers = await Promise.all([...signed, ...signed].map((one) => putInfo(one)));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    const kept = await getInfo(info);
    expect(kept!.signatures.map(({ name }) => name).sort()).toEqual(keys.map(({ name }) => name).sort());
  });

  test('of other contents takes the place of an old one, whose signatures go', async () => {
    const [one, other] = [newNar(), newNar()];
    await putNar(one);
    await putNar(other);
    const key = SecretKey.generate('test');
    const first = narInfoOf(one);
    await putInfo(first.with({ signatures: [key.sign(first)] }));
    const second = narInfoOf(other, { storePath: first.storePath });
    await putInfo(second);
    const kept = await getInfo(first);
    expect([kept!.narSize, kept!.signatures]).toEqual([second.narSize, []]);
  });

  test('may refer to itself, and to what is there', async () => {
    const [one, other] = [newNar(), newNar()];
    await Promise.all([putNar(one), putNar(other)]);
    const dependency = narInfoOf(one);
    const self = narInfoOf(other).storePath;
    const info = narInfoOf(other, { references: [dependency.storePath, self] });
    const missing = `${self.absolute()} refers to what is not here: ${dependency.storePath.absolute()};`;
    expect(await refused(putInfo(info), 409)).toContain(missing);
    expect(await getInfo(info)).toBeUndefined();
    expect((await putInfo(dependency)).status).toBe(200);
    expect((await putInfo(info)).status).toBe(200);
    const renamed = StorePath.of(dependency.storePath.hash, 'another');
    await refused(putInfo(narInfoOf(other, { references: [renamed] })), 409);
  });

  const nar = newNar();
  const NARINFOS: [string, string, () => string][] = [
    [
      'of another path',
      'not of',
      () => narInfoOf(nar, { storePath: StorePath.of(randomBytes(20, 'x'), 'x') }).toString(),
    ],
    [
      'of a NAR that was not uploaded',
      'upload that first',
      () => narInfoOf(nar, { narSha256: sha256(Buffer.from('x')) }).toString(),
    ],
    ['of another length', 'bytes, not', () => narInfoOf(nar, { narSize: BigInt(nar.length + 8) }).toString()],
    [
      'with an address that is not its path',
      'does not follow',
      () => narInfoOf(nar, { ca: { type: 'fixed:r:sha256', digest: sha256(nar) } }).toString(),
    ],
    ['without a line end', 'last line', () => narInfoOf(nar).toString().trimEnd()],
    ['with a line that is none', 'invalid narinfo', () => `${narInfoOf(nar)}nonsense\n`],
    [
      'without a store path',
      'StorePath',
      () =>
        narInfoOf(nar)
          .toString()
          .replace(/^StorePath.*\n/, ''),
    ],
    ['that is empty', 'invalid narinfo', () => ''],
    ['that is short', 'invalid narinfo', () => 'x'],
    ['that is long', 'longer than', () => `${narInfoOf(nar)}X: ${'x'.repeat(2 << 20)}\n`],
    ['that is not UTF-8', 'UTF-8', () => `${narInfoOf(nar)}X: \xff\n`],
  ];
  test.each(NARINFOS)('%s is refused', async (_name, why, text) => {
    await putNar(nar);
    const body = Buffer.from(text(), 'latin1');
    expect(await refused(put(`/${narInfoOf(nar).storePath.hashText}.narinfo`, body))).toContain(why);
    expect(await getInfo(narInfoOf(nar))).toBeUndefined();
  });

  test('with a content address is checked against the contents', async () => {
    const contents = randomBytes(300_000, 'addressed');
    const plain = narOf(file(contents));
    const executable = narOf(file(contents, true));
    const ca = { type: 'fixed:sha1', digest: Hash.compute('sha1', contents).digest } as const;
    const text = { type: 'text:sha256', digest: sha256(Buffer.from('another')) } as const;
    const nar = { type: 'fixed:r:md5', digest: Hash.compute('md5', plain).digest } as const;
    const of = (bytes: Buffer, address: NonNullable<NarInfoValues['ca']>) =>
      narInfoOf(bytes, { ca: address, storePath: StorePath.ofContent('addressed', address) });
    await putNar(plain);
    await putNar(executable);
    expect((await putInfo(of(plain, ca))).status).toBe(200);
    expect((await putInfo(of(plain, nar))).status).toBe(200);
    expect(await refused(putInfo(of(executable, ca)))).toContain('not that of the contents');
    expect(await refused(putInfo(of(executable, nar)))).toContain('not that of the contents');
    expect(await refused(putInfo(of(plain, text)))).toContain('not that of the contents');
  });
});

describe('uploads', () => {
  test('come in any order and many at once', async () => {
    const nars = Array.from({ length: 40 }, (_, i) => narOf(generateTree(20, i)));
    await Promise.all(nars.map((nar) => putNar(nar)));
    const answers = await Promise.all(nars.reverse().map((nar) => putInfo(narInfoOf(nar))));
    expect(answers.map(({ status }) => status)).toEqual(nars.map(() => 200));
    const got = await Promise.all(nars.map((nar) => http(bridge.port, `/nar/${hashName(nar)}.nar`)));
    expect(got.every(({ body }, i) => body.equals(nars[i]!))).toBe(true);
  });

  test('go on with another process, whatever becomes of the first', async () => {
    const store = `local://${dir}/restarted`;
    const first = await startNarBridge(store);
    const nar = narOf(generateTree(50, 77));
    const packed = gzipSync(nar);
    await put(`/nar/${hashName(packed)}.nar`, packed, first);
    await first.stop('SIGKILL');
    const second = await startNarBridge(store);
    expect((await putInfo(narInfoOf(nar), second)).status).toBe(200);
    expect((await http(second.port, `/nar/${hashName(packed)}.nar`)).status).toBe(200);
    expect(await second.stop()).toBe(0);
    expect(await checkLocalStore(`${dir}/restarted`)).toEqual([narInfoOf(nar).storePath.absolute()]);
  });

  test('are signed with the key of the server, besides', async () => {
    const [ours, theirs] = [SecretKey.generate('ours'), SecretKey.generate('theirs')];
    writeFileSync(`${dir}/key`, ours.secret(), { mode: 0o600 });
    const signing = await startNarBridge(`local://${dir}/signed`, `${dir}/socket`, [
      '--signing-key-file',
      `${dir}/key`,
    ]);
    const nar = newNar();
    const info = narInfoOf(nar);
    await putNar(nar, signing);
    await putInfo(info.with({ signatures: [theirs.sign(info)] }), signing);
    const kept = await getInfo(info, signing);
    expect(kept!.signatures.map(({ name }) => name).sort()).toEqual(['ours', 'ours.castore', 'theirs']);
    const isGood = ({ publicKey }: SecretKey) => kept!.signatures.some((one) => publicKey.verify(kept!, one));
    expect([isGood(ours), isGood(theirs)]).toEqual([true, true]);
    await signing.stop();
  });

  test('are signed as they are served, what was there before as well, but nothing that is wrong', async () => {
    const at = `${dir}/served`;
    const before = await startNarBridge(`local://${at}`);
    const [nar, other] = [newNar(), newNar()];
    const [info, wrong] = [narInfoOf(nar), narInfoOf(other)];
    for (const [bytes, told] of [
      [nar, info],
      [other, wrong],
    ] as const) {
      await putNar(bytes, before);
      await putInfo(told, before);
    }
    await before.stop();
    const store = localStore(at);
    const claimed = (await store.pathInfos.get(wrong.storePath.hash))!;
    await store.pathInfos.put({ ...claimed, narSize: claimed.narSize + 8n });
    await store.close();
    const keys = ['served-1', 'served-2'].map((name) => SecretKey.generate(name));
    const flags = keys.flatMap((key) => {
      writeFileSync(`${dir}/${key.name}`, key.secret(), { mode: 0o600 });
      return ['--serve-signing-key-file', `${dir}/${key.name}`];
    });
    const signing = await startNarBridge(`local://${at}`, undefined, ['--read-only', ...flags]);
    const served = (await getInfo(info, signing))!;
    expect(
      keys.map(({ publicKey }) => served.signatures.some((one) => publicKey.verify(served, one))),
    ).toEqual([true, true]);
    expect((await getInfo(wrong, signing))!.signatures).toEqual([]);
    await signing.stop();
    // They are kept.
    const after = await startNarBridge(`local://${at}`);
    const names = (await getInfo(info, after))!.signatures.map(({ name }) => name);
    expect(names.sort()).toEqual(['served-1', 'served-1.castore', 'served-2', 'served-2.castore']);
    await after.stop();
  });

  test('can be made again when a part of the contents has gone', async () => {
    const store = `${dir}/lossy`;
    const nar = narOf(directory({ sub: directory({ file: file('lost') }) }));
    const first = await startNarBridge(`local://${store}`);
    await putNar(nar, first);
    await first.stop();
    const local = localStore(store);
    const [row] = [...local.local.env.chunks.rows()];
    await local.local.env.chunks.remove(row!.key);
    await local.close();
    const second = await startNarBridge(`local://${store}`);
    expect(await refused(putInfo(narInfoOf(nar), second))).toContain('upload it again');
    expect((await http(second.port, `/nar/${hashName(nar)}.nar`, { method: 'HEAD' })).status).toBe(404);
    await putNar(nar, second);
    expect((await putInfo(narInfoOf(nar), second)).status).toBe(200);
    await second.stop();
    expect(await checkLocalStore(store)).toHaveLength(1);
  });

  test('go to a store that is far', async () => {
    const daemon = await startDaemon(`local://${dir}/far`);
    const near = () => startNarBridge(daemon.url, undefined, ['--cache', `${dir}/cache`]);
    const first = await near();
    const nar = narOf(generateTree(30, 8));
    const packed = gzipSync(nar);
    expect((await put(`/nar/${hashName(packed)}.nar`, packed, first)).status).toBe(200);
    await first.stop();
    const second = await near();
    expect((await putInfo(narInfoOf(nar), second)).status).toBe(200);
    const { url } = (await getInfo(narInfoOf(nar), second))!;
    expect((await http(second.port, `/${url}`)).body.equals(nar)).toBe(true);
    await second.stop();
    await daemon.stop();
    expect(await checkLocalStore(`${dir}/far`)).toHaveLength(1);
    const store = localStore(`${dir}/far`);
    expect(await all(store.pathInfos.list())).toHaveLength(1);
    await store.close();
  });
});
