import { writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { encodeBase32 } from '../../src/nix/base32.ts';
import { isLoopback } from '../../src/server/connection.ts';
import type { Uploader, UploadRuleOptions } from '../../src/server/upload-rule.ts';
import { UploadRule } from '../../src/server/upload-rule.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import type { Code } from '../../src/util/errors.ts';
import { directoryOf } from '../contract/directories.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { tvixStore } from '../helpers/cli.ts';
import { openAt, startDaemon, startNarBridge } from '../helpers/daemon.ts';
import type { HttpOptions } from '../helpers/http.ts';
import { http } from '../helpers/http.ts';
import { narOf } from '../helpers/nar.ts';
import { codeOf, sha256 } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { file } from '../helpers/trees.ts';

const dir = tempDir();
const TOKEN_FILE = join(dir, 'token');
writeFileSync(TOKEN_FILE, 'the-token\n', { mode: 0o600 });

/** This machine's address for others: who comes from there does not come from loopback. */
const OUTSIDE = Object.values(networkInterfaces())
  .flat()
  .find((one) => one && !one.internal && one.family === 'IPv4')?.address;

const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

describe('who may upload', () => {
  const local = { isLocal: true };
  const far = { isLocal: false };
  const token = { token: () => 'the-token' };
  const CASES: [UploadRuleOptions, Uploader, Code | 'OK'][] = [
    [{}, local, 'OK'],
    [{}, far, 'PERMISSION_DENIED'],
    [{}, { ...far, authorization: 'Bearer the-token' }, 'PERMISSION_DENIED'],
    [{}, { ...far, hasCertificate: true }, 'OK'],
    [{ anonymous: true }, far, 'OK'],
    [{ readOnly: true }, local, 'PERMISSION_DENIED'],
    [{ readOnly: true }, { ...far, hasCertificate: true }, 'PERMISSION_DENIED'],
    [token, local, 'UNAUTHENTICATED'],
    [token, far, 'UNAUTHENTICATED'],
    [token, { ...far, hasCertificate: true }, 'OK'],
    [token, { ...far, authorization: 'Bearer the-token' }, 'OK'],
    [token, { ...far, authorization: 'bearer  the-token ' }, 'OK'],
    [token, { ...far, authorization: basic('anybody', 'the-token') }, 'OK'],
    [token, { ...far, authorization: basic('', 'the-token') }, 'OK'],
    [token, { ...far, authorization: basic('the-token', '') }, 'UNAUTHENTICATED'],
    [token, { ...local, authorization: 'Bearer the-toke' }, 'UNAUTHENTICATED'],
    [token, { ...local, authorization: 'Bearer the-tokens' }, 'UNAUTHENTICATED'],
    [token, { ...local, authorization: 'the-token' }, 'UNAUTHENTICATED'],
    [token, { ...local, authorization: 'Basic the-token' }, 'UNAUTHENTICATED'],
    [token, { ...local, authorization: 'Bearer' }, 'UNAUTHENTICATED'],
    [token, { ...local, authorization: '' }, 'UNAUTHENTICATED'],
    [{ token: () => 'with:colon' }, { ...far, authorization: basic('user', 'with:colon') }, 'OK'],
  ];
  test.each(CASES)('%j %j: %s', async (options, uploader, expected) => {
    const check = () => new UploadRule(options).check(uploader);
    if (expected === 'OK') expect(check).not.toThrow();
    else expect(await codeOf(check)).toBe(expected);
  });

  test('is told by the addresses of this machine alone', () => {
    for (const address of ['127.0.0.1', '127.8.9.10', '::1', '::ffff:127.0.0.1']) {
      expect(isLoopback(address)).toBe(true);
    }
    for (const address of [
      undefined,
      '',
      '10.0.0.1',
      '127.0.0.1.evil',
      '::ffff:10.0.0.1',
      '::2',
      '1127.0.0.1',
    ]) {
      expect(isLoopback(address)).toBe(false);
    }
  });
});

describe('flags that contradict each other', () => {
  test.each([
    [['--allow-anonymous-upload', '--upload-token-file', TOKEN_FILE]],
    [['--read-only', '--upload-token-file', TOKEN_FILE]],
    [['--read-only', '--allow-anonymous-upload']],
    [['--signing-key-file', TOKEN_FILE, '--allow-anonymous-upload']],
    [['--upload-token-file', join(dir, 'missing')]],
    [['--upload-token-file', '/dev/null']],
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

test('a token is read again when it changes, on both sides', async () => {
  const files = { server: join(dir, 'server-token'), client: join(dir, 'client-token') };
  const write = (file: string, token: string) => writeFileSync(file, token, { mode: 0o600 });
  for (const file of Object.values(files)) write(file, 'the-first');
  const daemon = await startDaemon('memory://', '127.0.0.1:0', ['--upload-token-file', files.server]);
  const store = await openAt(`${daemon.url}?token-file=${files.client}`);
  const put = () =>
    store.blobs.put(Buffer.from('a blob')).then(
      () => 'taken',
      (error) => error.code,
    );
  expect(await put()).toBe('taken');
  write(files.server, 'the-second');
  await expect.poll(put, { timeout: 20_000 }).toBe('UNAUTHENTICATED');
  // What cannot be a token is none.
  write(files.client, '');
  await delay(1500);
  expect(await put()).toBe('UNAUTHENTICATED');
  write(files.client, 'the-second');
  await expect.poll(put, { timeout: 20_000 }).toBe('taken');
  await store.close();
  await daemon.stop();
});

describe('the binary cache', () => {
  const nar = narOf(file('to be uploaded'));
  const path = `/nar/${encodeBase32(sha256(nar))}.nar`;
  const start = (listen: string, ...flags: string[]) =>
    startNarBridge('memory://', listen, ['--cache', join(tempDir(), 'cache'), ...flags]);
  const upload = async (port: number, options: HttpOptions = {}) =>
    (await http(port, path, { method: 'PUT', body: nar, ...options })).status;
  const showing = (authorization: string) => ({ headers: { authorization } });

  test('takes uploads from loopback, and not from who was only forwarded', async () => {
    const { port, stop } = await start('[::]:0');
    expect(await upload(port)).toBe(200);
    expect(await upload(port, { host: '::1' })).toBe(200);
    for (const name of ['X-Forwarded-For', 'Forwarded', 'Via', 'X-Real-IP', 'Origin']) {
      expect(await upload(port, { headers: { [name]: '127.0.0.1' } }), name).toBe(403);
    }
    for (const put of [path, `/${'0'.repeat(32)}.narinfo`, `/${'0'.repeat(32)}.ls`]) {
      const { status } = await http(port, put, { method: 'PUT', headers: { via: 'x' }, body: 'x' });
      expect(status, put).toBe(403);
    }
    expect((await http(port, path, { headers: { via: 'x' } })).status).toBe(200);
    await stop();
  });

  test.skipIf(!OUTSIDE)('takes none from another address, unless it is told to', async () => {
    const host = OUTSIDE!;
    const closed = await start('[::]:0');
    expect(await upload(closed.port, { host })).toBe(403);
    await closed.stop();
    const open = await start('0.0.0.0:0', '--allow-anonymous-upload');
    expect(await upload(open.port, { host })).toBe(200);
    await open.stop();
  });

  test('takes them over a unix socket', async () => {
    const socketPath = join(tempDir(), 'socket');
    const { stop } = await start(socketPath);
    expect(await upload(0, { socketPath })).toBe(200);
    await stop();
  });

  test('takes them for a token, from whoever has it', async () => {
    const { port, stop, log } = await start('127.0.0.1:0', '--upload-token-file', TOKEN_FILE);
    const { status, headers } = await http(port, path, { method: 'PUT', body: nar });
    expect([status, headers['www-authenticate']]).toEqual([401, expect.stringContaining('Basic')]);
    expect(await upload(port, showing('Bearer wrong'))).toBe(401);
    expect(await upload(port, showing('Bearer the-token'))).toBe(200);
    expect(await upload(port, showing(basic('nix', 'the-token')))).toBe(200);
    expect(log()).not.toContain('the-token');
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
    const { url, stop } = await start('127.0.0.1:0', '--upload-token-file', TOKEN_FILE);
    expect(await upload(url)).toEqual(each('UNAUTHENTICATED'));
    expect(await upload(`${url}?token-file=${TOKEN_FILE}`)).toEqual(each('OK'));
    const wrong = join(dir, 'wrong');
    writeFileSync(wrong, 'wrong');
    expect(await upload(`${url}?token-file=${wrong}`)).toEqual(each('UNAUTHENTICATED'));
    const reader = await openAt(url);
    expect(await reader.pathInfos.get(info.storePath.hash)).toBeDefined();
    await reader.close();
    await stop();
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

  test.skipIf(!OUTSIDE)('takes none from another address, unless it is told to', async () => {
    const closed = await start('[::]:0');
    expect(await upload(`grpc+http://${OUTSIDE}:${closed.port}`)).toEqual(each('PERMISSION_DENIED'));
    expect(await upload(`grpc+http://127.0.0.1:${closed.port}`)).toEqual(each('OK'));
    await closed.stop();
    const open = await start('[::]:0', '--allow-anonymous-upload');
    expect(await upload(`grpc+http://${OUTSIDE}:${open.port}`)).toEqual(each('OK'));
    await open.stop();
  });
});
