import { writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { startNarBridge } from '../helpers/daemon.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { checkLocalStore, localStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { file, generateTree } from '../helpers/trees.ts';

/** Answers a request in another way; gives false to leave it to the server. */
type Twist = (request: IncomingMessage, response: ServerResponse, count: number) => boolean;

/** A server that keeps what is put, as one of static files does. */
async function dumbServer(twist: Twist = () => false) {
  const files = new Map<string, Buffer>();
  const counts = new Map<string, number>();
  const server = createServer(async (request, response) => {
    const key = `${request.method} ${request.url}`;
    const count = counts.get(key) ?? 0;
    counts.set(key, count + 1);
    if (twist(request, response, count)) return;
    if (request.method === 'PUT') {
      const body = await buffer(request).catch(() => undefined);
      if (body) files.set(request.url!, body);
      response.writeHead(201).end();
      return;
    }
    const found = files.get(request.url!);
    if (!found) response.writeHead(404).end();
    else
      response
        .writeHead(200, { 'content-length': found.length })
        .end(request.method === 'HEAD' ? undefined : found);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { files, counts, port: (server.address() as AddressInfo).port };
}

/** Sends for ever, as fast as that is read. */
function endless(response: ServerResponse): void {
  const write = () => {
    while (response.writable && response.write('x'.repeat(1 << 16)));
  };
  response.on('drain', write);
  write();
}

const app = storePathOf('app').absolute();
const lib = storePathOf('lib').absolute();

/** A store with `app`, which refers to `lib`. */
async function given(): Promise<string> {
  const dir = join(tempDir(), 'from');
  const store = localStore(dir);
  await putStorePath(store, 'lib', generateTree(60, 4));
  await putStorePath(store, 'app', file('app', true), {
    references: [storePathOf('app'), storePathOf('lib')],
  });
  await store.close();
  return `local://${dir}`;
}

const copy = (from: string, to: string) => tvixStore(['copy', '--from', from, '--to', to, app]);

test('a copy goes to a binary cache on the web, and goes on over what passes', async () => {
  const from = await given();
  const passing: Twist = ({ method, url }, response, count) => {
    if (method !== 'PUT' || count > 0) return false;
    if (url!.startsWith('/cache/nar/')) response.destroy();
    else response.writeHead(503).end('busy');
    return true;
  };
  const { port, files, counts } = await dumbServer(passing);
  const to = `nix+http://127.0.0.1:${port}/cache`;
  expect(await copy(from, to)).toMatchObject({ status: 0, stdout: `${lib}\n${app}\n` });
  expect([...files.keys()].filter((name) => name.endsWith('.narinfo'))).toHaveLength(2);
  const puts = () =>
    [...counts].filter(([key]) => key.startsWith('PUT')).reduce((sum, [, count]) => sum + count, 0);
  const before = puts();
  expect(await copy(from, to)).toMatchObject({ status: 0, stdout: '' });
  expect(puts()).toBe(before);
  const back = join(tempDir(), 'back');
  const taken = await tvixStore([
    'copy',
    '--from',
    `${to}?trusted=1`,
    '--to',
    `local://${back}`,
    '--cache',
    tempDir(),
    app,
  ]);
  expect(taken.status, taken.stderr).toBe(0);
  expect(await checkLocalStore(back)).toEqual([app, lib].sort());
});

test.each([
  ['drips', (response: ServerResponse) => void setInterval(() => response.write('x'), 100).unref()],
  ['never ends', (response: ServerResponse) => endless(response)],
  ['breaks off', (response: ServerResponse) => response.destroy()],
])('a server whose answer to an upload %s keeps nobody', async (_what, say) => {
  const from = await given();
  const { port, files } = await dumbServer((request, response) => {
    if (request.method !== 'PUT') return false;
    void buffer(request).then((body) => {
      files.set(request.url!, body);
      response.writeHead(200).flushHeaders();
      say(response);
    });
    return true;
  });
  const { status, stderr } = await copy(from, `nix+http://127.0.0.1:${port}`);
  expect(status, stderr).toBe(0);
  expect([...files.keys()].filter((name) => name.endsWith('.narinfo'))).toHaveLength(2);
});

test.each([
  ['narinfos that are none', 'noise'],
  ['narinfos of other paths', 'StorePath: /nix/store/66120w4fki3x3ps0dgwr3m5sgd2ys5l4-other\n'],
  ['narinfos without end', undefined],
  ['redirects in a circle', 302],
])('a copy to a server that gives %s ends, with an error', async (_what, said) => {
  const from = await given();
  const { port } = await dumbServer(({ method, url }, response) => {
    if (method !== 'GET' || url === '/nix-cache-info') return false;
    if (typeof said === 'number') response.writeHead(said, { location: url }).end();
    else if (said === undefined) endless(response);
    else response.end(said);
    return true;
  });
  const { status, stderr } = await copy(from, `nix+http://127.0.0.1:${port}`);
  expect([status, stderr]).toEqual([1, expect.stringMatching(/^error: /m)]);
});

test('who may not upload is told so, and what goes wrong names no path', async () => {
  const from = await given();
  const { port, files } = await dumbServer(({ headers, method }, response) => {
    if (method !== 'PUT' || headers.authorization === `Basic ${Buffer.from(':secret').toString('base64')}`)
      return false;
    response.writeHead(401).end('who are you?\n');
    return true;
  });
  const refused = await copy(from, `nix+http://127.0.0.1:${port}`);
  expect(refused).toMatchObject({ status: 1, stdout: '' });
  expect(refused.stderr).toMatch(/401: who are you\?.*netrc-file/);
  expect(files.size).toBe(0);
  const netrc = join(tempDir(), 'netrc');
  writeFileSync(netrc, 'machine 127.0.0.1 password secret\n');
  expect((await copy(from, `nix+http://127.0.0.1:${port}?netrc-file=${netrc}`)).status).toBe(0);
  const gone = await copy(from, 'nix+http://127.0.0.1:1');
  expect(gone.status).toBe(1);
});

describeNix('a copy over the web, beside the real Nix', () => {
  test('is what Nix substitutes from, and goes to a nar-bridge', async () => {
    const nix = new NixUser();
    const from = await given();
    const bridge = await startNarBridge(`local://${nix.home}/bridge`);
    const { port } = await dumbServer();
    for (const at of [`127.0.0.1:${port}`, bridge.at]) {
      expect(await copy(from, `nix+http://${at}`)).toMatchObject({ status: 0, stdout: `${lib}\n${app}\n` });
      const to = join(nix.home, at);
      await nix.run('nix', ['copy', '--from', `http://${at}`, '--to', to, '--no-check-sigs', app]);
      await nix.run('nix-store', ['--store', to, '--verify', '--check-contents']);
    }
    await bridge.stop();
    expect(await checkLocalStore(join(nix.home, 'bridge'))).toEqual([app, lib].sort());
  });
});
