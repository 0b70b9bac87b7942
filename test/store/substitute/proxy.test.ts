import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run, tvixStore } from '../../helpers/cli.ts';
import { startDaemon } from '../../helpers/daemon.ts';
import { S3Server } from '../../helpers/s3.ts';
import { tempDir } from '../../helpers/temp.ts';
import { WebProxy } from '../../helpers/web-proxy.ts';

const dir = tempDir();
const file = (name: string) => join(dir, name);
const servers: { close(): void }[] = [];
let path: string;
let proxy: WebProxy;
let plain: string;
let secure: string;

beforeAll(async () => {
  mkdirSync(file('tree'));
  writeFileSync(file('tree/file'), 'contents');
  path = (await tvixStore(['import', '--store', `local://${dir}/store`, file('tree')])).stdout.trim();
  await tvixStore(['copy', '--from', `local://${dir}/store`, '--to', `nix+file://${dir}/cache`, path]);
  const subject = ['-subj', '/CN=x', '-addext', 'subjectAltName=DNS:localhost', '-days', '2', '-nodes'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-keyout', file('key.pem')];
  const made = await run('openssl', ['req', '-x509', ...key, ...subject, '-out', file('ca.pem')]);
  expect(made.status, made.stderr).toBe(0);
  const answer = ({ url }: IncomingMessage, response: ServerResponse) => {
    try {
      response.end(readFileSync(join(dir, 'cache', url!)));
    } catch {
      response.writeHead(404).end();
    }
  };
  const pair = { key: readFileSync(file('key.pem')), cert: readFileSync(file('ca.pem')) };
  const ports = [createServer(answer), createSecureServer(pair, answer)].map(async (server) => {
    servers.push(server);
    await once(server.listen(0, 'localhost'), 'listening');
    return (server.address() as AddressInfo).port;
  });
  const [http, https] = await Promise.all(ports);
  plain = `nix+http://localhost:${http}?trusted=1`;
  secure = `nix+https://localhost:${https}?trusted=1`;
  proxy = await WebProxy.start();
});
afterAll(() => {
  for (const server of servers) server.close();
});

/** Without what this machine has for itself. */
const bare = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/proxy$|SSL_CERT_FILE$|^NODE_EXTRA_CA_CERTS$|SSL_ROOTS/i.test(name),
  ),
);
let caches = 0;
/** Reads a file from a store, as somebody in whose environment this is. */
const cat = (store: string, env: Record<string, string>) =>
  tvixStore(['cat', '--store', store, '--cache', file(`kept-${++caches}`), `${path}/file`], {
    env: { ...bare, ...env },
  });
const asked = () => proxy.asked.splice(0);
const hostOf = (address: string) => /localhost:\d+/.exec(address)![0];

describe('a binary cache is reached', () => {
  test('through the proxy that the environment names', async () => {
    for (const name of ['http_proxy', 'all_proxy']) {
      expect(await cat(plain, { [name]: proxy.url })).toMatchObject({ status: 0, stdout: 'contents' });
      expect(new Set(asked())).toEqual(new Set([`as it is ${hostOf(plain)}`]));
    }
    for (const name of ['https_proxy', 'HTTPS_PROXY', 'ALL_PROXY']) {
      const env = { [name]: proxy.url, NIX_SSL_CERT_FILE: file('ca.pem') };
      expect(await cat(secure, env)).toMatchObject({ status: 0, stdout: 'contents' });
      expect(new Set(asked())).toEqual(new Set([`tunnel ${hostOf(secure)}`]));
    }
  });

  test('without one where that is said', async () => {
    const env = { http_proxy: proxy.url, no_proxy: 'example.org,localhost' };
    expect(await cat(plain, env)).toMatchObject({ status: 0 });
    expect(await cat(plain, { HTTP_PROXY: proxy.url })).toMatchObject({ status: 0 });
    expect(asked()).toEqual([]);
  });

  test('when its authority is trusted, and not otherwise', async () => {
    const strange = await cat(secure, {});
    expect(strange.status).toBe(1);
    expect(strange.stderr).toContain('certificate');
    for (const variable of ['NIX_SSL_CERT_FILE', 'SSL_CERT_FILE'])
      expect(await cat(secure, { [variable]: file('ca.pem') })).toMatchObject({ status: 0 });
    expect(await cat(`${secure}&ca=${file('ca.pem')}`, {})).toMatchObject({ status: 0 });
    expect(await cat(`${secure}&ca=${file('ca.pem')}`, { https_proxy: proxy.url })).toMatchObject({
      status: 0,
    });
  });

  test.each([
    ['NIX_SSL_CERT_FILE', '/none', 'cannot read NIX_SSL_CERT_FILE=/none: no such file or directory'],
    ['SSL_CERT_FILE', import.meta.filename, 'has no certificates'],
  ])('not with %s=%s', async (variable, value, why) => {
    const { status, stderr } = await cat(secure, { [variable]: value });
    expect([status, stderr]).toEqual([2, expect.stringContaining(why)]);
  });

  test('not with an authority that cannot be read', async () => {
    const { status, stderr } = await cat(`${secure}&ca=/none`, {});
    expect([status, stderr]).toEqual([2, expect.stringContaining('cannot read ca=/none: no such file')]);
  });
});

test('a daemon is reached through a proxy, and one with TLS by what the machine trusts', async () => {
  const daemon = await startDaemon(`local://${dir}/store`);
  asked();
  expect(await cat(daemon.url, { http_proxy: proxy.url })).toMatchObject({ status: 0, stdout: 'contents' });
  expect(new Set(asked())).toEqual(new Set([`tunnel 127.0.0.1:${daemon.port}`]));
  const tls = ['--tls-cert', file('ca.pem'), '--tls-key', file('key.pem')];
  const secret = await startDaemon(`local://${dir}/store`, '127.0.0.1:0', tls);
  const address = `grpc+https://localhost:${secret.port}`;
  expect(await cat(address, { SSL_CERT_FILE: file('ca.pem') })).toMatchObject({
    status: 0,
    stdout: 'contents',
  });
});

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const server = S3Server.start();
test.skipIf('missing' in server || (major === 22 && minor < 21))(
  'a bucket is reached through a proxy',
  async () => {
    if ('missing' in server) return;
    const bucket = server.address();
    const env = { ...bare, http_proxy: proxy.url };
    const { status, stderr } = await tvixStore(['import', '--store', bucket, file('tree')], { env });
    expect(status, stderr).toBe(0);
    expect(asked().length).toBeGreaterThan(0);
  },
);
