import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

/** Far less than the minute after which a call would be given up; a loaded machine may start slowly. */
const AT_ONCE_MS = 25_000;
const HASH = '00bgd045z0d4icpbc2yyz4gx48ak44la';
const dir = tempDir();
const env = { ...process.env, TVIX_STORE_CACHE: `${dir}/cache` };
const servers: Server[] = [];
/** What addresses stand for, by what is written in them. */
const places = new Map<string, string>();

async function listen(server: Server, at: string | number): Promise<void> {
  servers.push(server.listen(at as number, ...(typeof at === 'number' ? ['127.0.0.1'] : [])));
  await once(server, 'listening');
}

beforeAll(async () => {
  const silent = createServer(() => {});
  await listen(silent, 0);
  await listen(
    createServer(() => {}),
    `${dir}/silent.sock`,
  );
  const plain = createHttpServer((_, response) => response.end('hello'));
  await listen(plain, 0);
  const closing = createServer((socket) => socket.destroy());
  await listen(closing, 0);
  for (const [name, server] of Object.entries({ SILENT: silent, PLAIN: plain, CLOSING: closing }))
    places.set(name, `127.0.0.1:${(server.address() as AddressInfo).port}`);
  places.set('DIR', dir);
  writeFileSync(`${dir}/file`, 'contents');
  writeFileSync(`${dir}/nar`, '');
  mkdirSync(`${dir}/out`);
  await localStore(`${dir}/store`).close();
  await tvixStore(['key', 'generate', '--file', `${dir}/key`, 'key-1']);
});

afterAll(() => {
  for (const server of servers) server.close();
});

/** Runs a command that cannot reach what it needs; gives what it says. */
async function complaint(...args: string[]): Promise<string> {
  const filled = args.map((arg) => arg.replace(/DIR|[A-Z]{5,}/, (name) => places.get(name) ?? name));
  const { status, stdout, stderr } = await tvixStore(filled, { env, timeout: AT_ONCE_MS });
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(/^error: .*\n$/);
  expect(stderr).not.toContain('Resolution note');
  return stderr;
}

describe.concurrent('a peer that cannot be reached', () => {
  test.each([
    ['grpc+http://127.0.0.1:1', 'the connection is refused: check that the server runs'],
    ['grpc+unix:///none', 'there is no such socket: check that the server runs'],
    ['grpc+http://SILENT', 'it does not answer: check the address'],
    ['grpc+https://SILENT', 'it does not answer: check the address'],
    ['grpc+unix://DIR/silent.sock', 'it does not answer: check the address'],
    ['grpc+https://PLAIN', 'check the port, and whether it is meant to be encrypted'],
    ['grpc+http://PLAIN', 'check the port, and whether it is meant to be encrypted'],
    ['grpc+http://CLOSING', 'check the port, and whether it is meant to be encrypted'],
    ['grpc+http://no.such.host.invalid:8000', 'its name cannot be resolved: check the name'],
    ['nix+http://127.0.0.1:1', 'the connection is refused: check that the server runs'],
    ['nix+http://SILENT', 'it does not answer: check the address'],
    ['nix+https://PLAIN', 'check the port, and whether it is meant to be encrypted'],
    ['nix+http://no.such.host.invalid', 'its name cannot be resolved: check the name'],
    ['objectstore+s3://bucket?endpoint=http://SILENT&KEYS', 'it does not answer: check the address'],
    ['objectstore+s3://bucket?endpoint=http://127.0.0.1:1&KEYS', 'the connection is refused: check that'],
  ])('is named with what to check: %s', async (address, what) => {
    const keys = 'allow_http=true&access_key_id=a&secret_access_key=b&region=c';
    const stderr = await complaint('path-info', HASH, '--store', address.replace('KEYS', keys));
    expect(stderr).toContain(what);
    const host = address
      .replace(/^.*endpoint=|&.*$|^nix\+/g, '')
      .replace(/DIR|[A-Z]{5,}/, (name) => places.get(name)!);
    expect(stderr).toContain(host);
  });

  const GONE = 'grpc+http://127.0.0.1:1';
  test.each([
    ['ls', '--store', GONE],
    ['cat', '--store', GONE, `${HASH}-name/file`],
    ['nar', 'dump', '--store', GONE, HASH],
    ['nar', 'ls', '--store', GONE, HASH],
    ['nix-db', '--store', GONE, HASH],
    ['import', '--store', GONE, 'DIR/file'],
    ['sign', '--store', GONE, '--key-file', 'DIR/key', '--all'],
    ['verify', '--store', GONE, '--all'],
    ['realise', '--store', GONE, HASH, 'DIR/out'],
    ['warm', '--store', GONE, HASH],
  ])('is told by %s', async (...args) => {
    expect(await complaint(...args)).toContain(
      'cannot connect to grpc+http://127.0.0.1:1: the connection is refused',
    );
  });

  test('makes no store to copy to', async () => {
    const stderr = await complaint('copy', '--from', GONE, '--to', 'local://DIR/new', HASH);
    expect(stderr).toContain('cannot connect to grpc+http://127.0.0.1:1');
    expect(existsSync(`${dir}/new`)).toBe(false);
  });

  test('is no reason not to say what is near', async () => {
    const near = `cache://?near=${encodeURIComponent(`local://${dir}/store`)}&far=${encodeURIComponent(GONE)}`;
    writeFileSync(`${dir}/near`, 'near');
    const imported = await tvixStore(['import', '--store', `local://${dir}/store`, `${dir}/near`]);
    const { status, stdout } = await tvixStore(['cat', '--store', near, imported.stdout.trim()], { env });
    expect([status, stdout]).toEqual([0, 'near']);
  });
});
