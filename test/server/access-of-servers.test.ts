import { readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { encodeBase32 } from '../../src/nix/base32.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { directoryOf } from '../contract/directories.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { startTvixStore, tvixStore } from '../helpers/cli.ts';
import { asDaemon, openAt, startDaemon, startNarBridge } from '../helpers/daemon.ts';
import type { HttpOptions } from '../helpers/http.ts';
import { http } from '../helpers/http.ts';
import { narOf } from '../helpers/nar.ts';
import { codeOf, sha256 } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { file } from '../helpers/trees.ts';

const dir = tempDir();
/** The file of a server's tokens, and those of clients that each hold one of them. */
const TOKENS = join(dir, 'tokens.json');
const holding = (name: string) => join(dir, name);
const wordOf = (name: string) => readFileSync(holding(name), 'utf8');

/** Makes a token, as a person would. */
async function add(name: string, ...args: string[]): Promise<void> {
  const { status, stdout, stderr } = await tvixStore(['token', 'add', '--file', TOKENS, name, ...args]);
  expect(status, stderr).toBe(0);
  writeFileSync(holding(name), stdout.trim());
}

beforeAll(async () => {
  await add('writer', '--rights', 'read,write', '--expires', '1d');
  await add('reader');
  await add('some', '--rights', 'read,write', '--paths', '*-some', '*-others');
  writeFileSync(holding('nobody'), 'nonsense');
});

/** This machine's address for others: who comes from there does not come from loopback. */
const OUTSIDE = Object.values(networkInterfaces())
  .flat()
  .find((one) => one && !one.internal && one.family === 'IPv4')?.address;

const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

describe('flags that contradict each other', () => {
  test.each([
    [['--allow-anonymous-upload', '--tokens', TOKENS]],
    [['--read-only', '--allow-anonymous-upload']],
    [['--signing-key-file', TOKENS, '--allow-anonymous-upload']],
    [['--tokens', join(dir, 'missing')]],
    [['--tokens', '/dev/null']],
    [['--tokens', import.meta.filename]],
  ])('%j is wrong usage', async (flags) => {
    for (const command of ['nar-bridge', 'daemon']) {
      const { status, stderr } = await tvixStore([
        command,
        '--store',
        'memory://',
        '-l',
        '127.0.0.1:0',
        ...flags,
      ]);
      expect(status).toBe(2);
      expect(stderr).toMatch(/^error: /m);
    }
  });
});

test('tokens come and go while a server runs, and so do those of clients', async () => {
  await add('first', '--rights', 'write');
  const daemon = await startDaemon('memory://', '127.0.0.1:0', ['--tokens', TOKENS]);
  const client = join(dir, 'client');
  writeFileSync(client, wordOf('first'));
  const store = await openAt(`${daemon.url}?token-file=${client}`);
  const put = () =>
    store.blobs.put(Buffer.from('a blob')).then(
      () => 'taken',
      (error) => error.code,
    );
  expect(await put()).toBe('taken');
  await tvixStore(['token', 'remove', '--file', TOKENS, 'first']);
  await expect.poll(put, { timeout: 20_000 }).toBe('UNAUTHENTICATED');
  // What cannot be a token is none.
  writeFileSync(client, '');
  await delay(1500);
  expect(await put()).toBe('UNAUTHENTICATED');
  await add('second', '--rights', 'admin');
  writeFileSync(client, wordOf('second'));
  await expect.poll(put, { timeout: 20_000 }).toBe('taken');
  await tvixStore(['token', 'remove', '--file', TOKENS, 'second']);
  await store.close();
  await daemon.stop();
});

describe('tvix-store token', () => {
  const token = (...args: string[]) => tvixStore(['token', ...args]);

  test('lists what there is, and never the words', async () => {
    const { stdout } = await token('list', '--file', TOKENS);
    expect(stdout).toMatch(
      /^\(without a token\)\tread\nwriter\tread,write\tuntil 2.*Z\nreader\tread\nsome\tread,write\tfor \*-some \*-others\n$/,
    );
    const json = (await token('list', '--file', TOKENS, '--json')).stdout;
    expect(JSON.parse(json).tokens).toHaveLength(3);
    for (const name of ['writer', 'reader', 'some'])
      expect(json + stdout + readFileSync(TOKENS, 'utf8')).not.toContain(wordOf(name));
  });

  test.each([
    [['add', '--file', TOKENS, 'reader'], 1, 'already'],
    [['remove', '--file', TOKENS, 'none'], 1, 'no token none'],
    [['add', '--file', TOKENS, 'a b'], 2, 'cannot name a token'],
    [['add', '--file', TOKENS, 'x', '--rights', 'all'], 2, 'read, write, admin'],
    [['add', '--file', TOKENS, 'x', '--expires', '7'], 2, 'expires'],
    [['anonymous', '--file', TOKENS, 'write'], 2, 'read or nothing'],
    [['list', '--file', import.meta.filename], 1, 'is no file of tokens: it is not JSON'],
    [['add', '--file', '/none/tokens', 'x'], 1, '/none/tokens'],
  ])('%j ends with %i', async (args, status, why) => {
    expect(await token(...args)).toMatchObject({ status, stderr: expect.stringContaining(why) });
  });
});

describe('the binary cache', () => {
  const nar = narOf(file('to be uploaded'));
  const path = `/nar/${encodeBase32(sha256(nar))}.nar`;
  const start = (listen: string, ...flags: string[]) =>
    startNarBridge('memory://', listen, ['--cache', join(tempDir(), 'cache'), ...flags]);
  const upload = async (port: number, options: HttpOptions = {}) =>
    (await http(port, path, { method: 'PUT', body: nar, ...options })).status;
  const showing = (authorization: string) => ({ headers: { authorization } });

  test('takes none over TCP, unless it is told to', async () => {
    const closed = await startNarBridge('memory://', '[::]:0', [
      '--cache',
      join(tempDir(), 'cache'),
      '--read-only',
    ]);
    expect(await upload(closed.port)).toBe(403);
    await closed.stop();
    const tcp = await startTvixStore(
      ['nar-bridge', '--store', 'memory://', '-l', '[::]:0'],
      'info: listening',
    );
    const silent = asDaemon(tcp);
    expect(await upload(silent.port)).toBe(403);
    if (OUTSIDE) expect(await upload(silent.port, { host: OUTSIDE })).toBe(403);
    await silent.stop();
    const open = await start('[::]:0', '--allow-anonymous-upload');
    expect(await upload(open.port)).toBe(200);
    if (OUTSIDE) expect(await upload(open.port, { host: OUTSIDE })).toBe(200);
    await open.stop();
  });

  test('takes none from a web page, whatever it shows', async () => {
    const { port, stop } = await start('127.0.0.1:0', '--allow-anonymous-upload');
    for (const headers of [{ origin: 'http://evil.example' }, { 'sec-fetch-site': 'cross-site' }]) {
      for (const put of [path, `/${'0'.repeat(32)}.narinfo`, `/${'0'.repeat(32)}.ls`, '/log/x.drv'])
        expect(
          (await http(port, put, { method: 'PUT', headers: headers as never, body: 'x' })).status,
          put,
        ).toBe(403);
      expect((await http(port, '/nix-cache-info', { headers: headers as never })).status).toBe(200);
    }
    await stop();
  });

  test('takes none over a unix socket from who was only forwarded', async () => {
    const socketPath = join(tempDir(), 'socket');
    const { stop } = await start(socketPath);
    for (const name of ['X-Forwarded-For', 'Forwarded', 'Via', 'X-Real-IP'])
      expect(await upload(0, { socketPath, headers: { [name]: '127.0.0.1' } }), name).toBe(403);
    await stop();
  });

  test('lets only those read who may', async () => {
    const only = join(dir, 'only.json');
    await tvixStore(['token', 'anonymous', '--file', only, 'nothing']);
    const made = await tvixStore(['token', 'add', '--file', only, 'reader']);
    const { port, stop } = await start('127.0.0.1:0', '--tokens', only);
    for (const at of ['/nix-cache-info', '/', '/metrics', path, `/${'0'.repeat(32)}.narinfo`]) {
      const { status, headers } = await http(port, at);
      expect([status, headers['www-authenticate']], at).toEqual([401, expect.stringContaining('Basic')]);
    }
    expect((await http(port, '/health')).status).toBe(200);
    const shown = { headers: { authorization: basic('nix', made.stdout.trim()) } };
    expect((await http(port, '/nix-cache-info', shown)).status).toBe(200);
    expect(await upload(port, shown)).toBe(403);
    await stop();
  });

  test('takes them over a unix socket', async () => {
    const socketPath = join(tempDir(), 'socket');
    const { stop } = await start(socketPath);
    expect(await upload(0, { socketPath })).toBe(200);
    await stop();
  });

  test('takes them for a token, from whoever has one that is for it', async () => {
    const { port, stop, log } = await start('127.0.0.1:0', '--tokens', TOKENS);
    const { status, headers } = await http(port, path, { method: 'PUT', body: nar });
    expect([status, headers['www-authenticate']]).toEqual([401, expect.stringContaining('Basic')]);
    expect(await upload(port, showing('Bearer wrong'))).toBe(401);
    expect(await upload(port, showing(`Bearer ${wordOf('reader')}`))).toBe(403);
    expect(await upload(port, showing(`Bearer ${wordOf('writer')}`))).toBe(200);
    expect(await upload(port, showing(basic('nix', wordOf('writer'))))).toBe(200);
    expect(log()).not.toContain(wordOf('writer'));
    await stop();
  });

  test('takes none when it is read-only', async () => {
    const { port, stop } = await start('127.0.0.1:0', '--read-only');
    expect(await upload(port)).toBe(403);
    await stop();
  });
});

describe('the daemon', () => {
  const start = (listen: string, ...flags: string[]) => startDaemon('memory://', listen, flags);
  const CONTENTS = Buffer.from('blob');
  const info: PathInfo = {
    ...pathInfo('put'),
    node: { kind: 'file', digest: Digest.hash(CONTENTS), size: 4n, executable: false },
  };
  /** What becomes of a put of each kind. */
  const upload = async (url: string) => {
    const store = await openAt(url);
    try {
      const outcome = (work: Promise<unknown>) =>
        codeOf(work.then(() => Promise.reject(new Error('done')))).catch(() => 'OK');
      const putter = store.directories.putMany();
      await putter.add(directoryOf({})).catch(() => {});
      return [
        await outcome(store.blobs.put(CONTENTS)),
        await outcome(putter.close()),
        await outcome(store.pathInfos.put(info)),
      ];
    } finally {
      await store.close();
    }
  };
  const each = (code: string) => [code, code, code];

  test('takes uploads for a token', async () => {
    const { url, stop } = await start('127.0.0.1:0', '--tokens', TOKENS);
    expect(await upload(url)).toEqual(each('UNAUTHENTICATED'));
    expect(await upload(`${url}?token-file=${holding('writer')}`)).toEqual(each('OK'));
    expect(await upload(`${url}?token-file=${holding('nobody')}`)).toEqual(each('UNAUTHENTICATED'));
    expect(await upload(`${url}?token-file=${holding('reader')}`)).toEqual(each('PERMISSION_DENIED'));
    // Contents have no names.
    expect(await upload(`${url}?token-file=${holding('some')}`)).toEqual(['OK', 'OK', 'PERMISSION_DENIED']);
    for (const [query, isThere] of [
      ['', true],
      [`?token-file=${holding('some')}`, false],
    ] as const) {
      const reader = await openAt(url + query);
      expect((await reader.pathInfos.get(info.storePath.hash)) !== undefined).toBe(isThere);
      expect(await Array.fromAsync(reader.pathInfos.list())).toHaveLength(isThere ? 1 : 0);
      await reader.close();
    }
    await stop();
  });

  test('lets only those read who may, and tells everybody how it is', async () => {
    const only = join(dir, 'only-daemon.json');
    await tvixStore(['token', 'anonymous', '--file', only, 'nothing']);
    const made = await tvixStore(['token', 'add', '--file', only, 'reader']);
    writeFileSync(holding('only-reader'), made.stdout.trim());
    const daemon = await start('127.0.0.1:0', '--tokens', only);
    const list = (query: string) => tvixStore(['ls', '--store', `${daemon.url}${query}`]);
    expect(await list('')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('needs a token here'),
    });
    expect(await list(`?token-file=${holding('only-reader')}`)).toMatchObject({ status: 0 });
    await daemon.stop();
  });

  test('takes none when it is read-only', async () => {
    const { url, stop } = await start('127.0.0.1:0', '--read-only');
    expect(await upload(url)).toEqual(each('PERMISSION_DENIED'));
    await stop();
  });

  test('takes them over a unix socket', async () => {
    const { url, stop } = await start(join(tempDir(), 'socket'));
    expect(await upload(url)).toEqual(each('OK'));
    await stop();
  });

  test('takes none over TCP, unless it is told to', async () => {
    const closed = asDaemon(
      await startTvixStore(['daemon', '--store', 'memory://', '-l', '[::]:0'], 'info: listening'),
    );
    if (OUTSIDE)
      expect(await upload(`grpc+http://${OUTSIDE}:${closed.port}`)).toEqual(each('PERMISSION_DENIED'));
    expect(await upload(`grpc+http://127.0.0.1:${closed.port}`)).toEqual(each('PERMISSION_DENIED'));
    await closed.stop();
    const open = await start('[::]:0', '--allow-anonymous-upload');
    if (OUTSIDE) expect(await upload(`grpc+http://${OUTSIDE}:${open.port}`)).toEqual(each('OK'));
    expect(await upload(`grpc+http://127.0.0.1:${open.port}`)).toEqual(each('OK'));
    await open.stop();
  });

  test('takes them over an abstract socket, which has no mode, from who is root or its user', async () => {
    const name = `@tvix-store-test-${process.pid}`;
    const daemon = await startDaemon('memory://', name);
    expect(await upload(`grpc+unix:${name}`)).toEqual(each('OK'));
    await daemon.stop();
  });
});
