import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { CLIENT_MAGIC, NEWEST_VERSION, OPERATION, REPLY } from '../../src/nix/worker/protocol.ts';
import { WireWriter } from '../../src/nix/worker/writer.ts';
import { tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startNixDaemon } from '../helpers/daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import { ABSENT, RawNixClient } from '../helpers/raw-nix-client.ts';
import { tempDir } from '../helpers/temp.ts';

let daemon: TestDaemon;
beforeAll(async () => {
  const dir = tempDir();
  await tvixStore(['import', '--store', `local://${dir}/store`, import.meta.filename]);
  daemon = await startNixDaemon(`local://${dir}/store`, join(dir, 'socket'));
});

const greeted = async () => {
  const client = new RawNixClient(daemon.at);
  await client.greet();
  return client;
};

test('what is wrong in the middle of a request ends the connection, with a word', async () => {
  const cases: [(to: WireWriter) => void, string][] = [
    [(to) => to.number(99), 'operation 99'],
    [(to) => to.number(OPERATION.BuildDerivation), 'BuildDerivation'],
    [(to) => to.number(OPERATION.IsValidPath).text('/etc/passwd'), 'not below /nix/store'],
    [(to) => to.number(OPERATION.QueryPathFromHashPart).text('x'), 'not the hash of a store path'],
    [(to) => to.number(OPERATION.QueryValidPaths).number(2n ** 40n), 'no more than'],
    [(to) => to.number(OPERATION.IsValidPath).number(2n ** 62n), 'no more than'],
    [
      (to) => to.number(OPERATION.AddSignatures).text(ABSENT).texts(Array(1001).fill('key:x')),
      '1001 signatures',
    ],
  ];
  for (const [write, message] of cases) {
    const client = await greeted();
    write(client.to);
    client.send();
    expect(await client.refusal()).toContain(message);
    expect(await client.from.isAtEnd()).toBe(true);
  }
});

test('what cannot be done is told, and the next request is answered', async () => {
  const client = await greeted();
  const described = (path: string, narSize: number) =>
    client.to
      .text(path)
      .text('')
      .text('0'.repeat(64))
      .texts([])
      .number(0)
      .number(narSize)
      .number(0)
      .texts([])
      .text('');
  const frame = (bytes: Uint8Array) => {
    client.to.number(bytes.length);
    client.send();
    client.send(bytes);
  };
  // What is not a NAR, too long, too short, or not of this hash.
  for (const [size, bytes, why] of [
    [100, randomBytes(100, 'noise'), 'NAR'],
    [10, randomBytes(100, 'noise'), 'longer than 10 bytes'],
    [1000, Buffer.from('0d000000000000006e69782d617263686976652d31000000', 'hex'), 'shorter'],
  ] as const) {
    client.to.number(OPERATION.AddToStoreNar);
    described(ABSENT, size).number(0).number(0);
    frame(bytes);
    client.to.number(0);
    client.send();
    expect(await client.refusal()).toContain(why);
    await client.works();
  }
  // An address that is not that of the path, among several paths.
  client.to.number(OPERATION.AddMultipleToStore).number(0).number(0);
  frame(new WireWriter().number(2).text('nonsense').take());
  client.to.number(0);
  client.send();
  expect(await client.refusal()).toContain('not below /nix/store');
  await client.works();
  client.socket.destroy();
});

test('clients that hang up, say nothing or write noise are no trouble for others', async () => {
  const good = await greeted();
  const others: RawNixClient[] = [];
  for (let i = 0; i < 60; i++) {
    const client = i % 2 ? await greeted() : new RawNixClient(daemon.at);
    others.push(client);
    if (i % 3 === 0) client.send(randomBytes(1 + ((i * 37) % 300), `noise ${i}`));
    if (i % 3 === 1) {
      client.to.number(OPERATION.AddToStoreNar).text(ABSENT);
      client.send(client.to.take().subarray(0, i));
    }
    if (i % 5 === 0) client.socket.destroy();
    await good.works();
  }
  for (const { socket } of others) socket.destroy();
  await good.works();
  good.socket.destroy();
  expect(daemon.child.exitCode).toBe(null);
});

test('more clients than it takes at once keep nobody out who asks', async () => {
  const others: RawNixClient[] = [];
  for (let i = 0; i < 700; i++) {
    const client = new RawNixClient(daemon.at);
    others.push(client);
    // Some are clients of Nix that ask for nothing.
    if (i % 10 === 0) await client.greet();
    else await once(client.socket, 'connect');
    if (i % 50 === 0) await (await greeted()).works();
  }
  const good = await greeted();
  await good.works();
  for (const { socket } of [...others, good]) socket.destroy();
});

test('nor do as many who all stop in the middle of a request', async () => {
  const others: RawNixClient[] = [];
  for (let i = 0; i < 600; i++) {
    const client = await greeted();
    others.push(client);
    client.to.number(OPERATION.IsValidPath).number(ABSENT.length);
    client.send();
  }
  const good = await greeted();
  await good.works();
  for (const { socket } of [...others, good]) socket.destroy();
});

test.for(['QueryValidPaths', 'QueryMissing'] as const)(
  '%s of very many paths keeps nobody else waiting',
  async (operation) => {
    const [greedy, good] = [await greeted(), await greeted()];
    const hash = (i: number) => String(i).padStart(32, '0');
    const paths = Array.from({ length: 150_000 }, (_, i) => `/nix/store/${hash(i)}-absent`);
    greedy.to.number(OPERATION[operation]).texts(paths).number(0);
    greedy.send();
    let isAnswered = false;
    const answer = greedy.from.number().then(() => {
      isAnswered = true;
    });
    let count = 0;
    while (!isAnswered) {
      await good.works();
      count++;
    }
    await answer;
    // Some of them while the request comes.
    expect(count).toBeGreaterThan(50);
    for (const { socket } of [greedy, good]) socket.destroy();
  },
);

test('an error does not repeat all that the client has sent', async () => {
  const client = await greeted();
  client.to.number(OPERATION.QueryRealisation).text('x'.repeat(1 << 20));
  client.send();
  expect((await client.refusal()).length).toBeLessThan(20_000);
  await client.works();
  client.socket.destroy();
});

/**
 * Looks that clients who stand still take only so much memory, and keep nobody out: for as long as it takes to cut off some
 * of them. `before`: bytes that the daemon had without them.
 */
async function takeLittle(
  daemon: TestDaemon,
  before: number,
  clients: readonly RawNixClient[],
): Promise<void> {
  const good = new RawNixClient(daemon.at);
  await good.greet();
  for (let round = 0; round < 20; round++) {
    await good.works();
    expect(daemon.memory() - before).toBeLessThan(250 << 20);
    await delay(100);
  }
  for (const { socket } of [...clients, good]) socket.destroy();
  expect(await daemon.stop()).toBe(0);
}

test.for([
  ['requests', (to: WireWriter) => to.number(OPERATION.QueryValidPaths)],
  ['greetings', (to: WireWriter) => to.number(CLIENT_MAGIC).number(NEWEST_VERSION)],
] as const)('clients that send long %s but for their end take only so much memory', async ([what, begin]) => {
  const dir = tempDir();
  const other = await startNixDaemon(`local://${dir}/store`, join(dir, 'socket'), ['--max-memory', '32M']);
  const text = new WireWriter().text('x'.repeat(1000)).take();
  const most = Buffer.concat(Array.from({ length: 12_000 }, () => text));
  const before = other.memory();
  const clients: RawNixClient[] = [];
  for (let i = 0; i < 40; i++) {
    const client = new RawNixClient(other.at);
    clients.push(client);
    if (what === 'requests') await client.greet();
    begin(client.to).number(1 << 20);
    client.send();
    client.send(most);
  }
  // 40 of them have 480 MB.
  await takeLittle(other, before, clients);
});

test('uploads that all stop half way take only so much memory, and keep nobody from reading', async () => {
  const dir = tempDir();
  const other = await startNixDaemon(`local://${dir}/store`, join(dir, 'socket'), ['--max-memory', '16M']);
  const before = other.memory();
  const size = 100 << 20;
  const clients: RawNixClient[] = [];
  for (let i = 0; i < 50; i++) {
    const client = new RawNixClient(other.at);
    clients.push(client);
    await client.greet();
    client.to
      .number(OPERATION.AddToStore)
      .text('name')
      .text('fixed:r:sha256')
      .texts([])
      .number(0)
      .number(size);
    for (const word of ['nix-archive-1', '(', 'type', 'regular', 'contents']) client.to.text(word);
    client.to.number(size - 200);
    client.send();
    client.send(randomBytes(1 << 20, 'half'));
  }
  await takeLittle(other, before, clients);
});

test('one that stops does not wait for clients that say nothing, and does for a request', async () => {
  const dir = tempDir();
  const other = await startNixDaemon(`local://${dir}/store`, join(dir, 'socket'));
  const idle = new RawNixClient(other.at);
  await idle.greet();
  const busy = new RawNixClient(other.at);
  await busy.greet();
  busy.to.number(OPERATION.IsValidPath).number(ABSENT.length);
  busy.send();
  await idle.works();
  const stopped = other.stop();
  expect(await idle.from.isAtEnd()).toBe(true);
  busy.send(new WireWriter().text(ABSENT).take().subarray(8));
  expect(await busy.from.count('reply')).toBe(REPLY.LAST);
  expect(await busy.from.flag()).toBe(false);
  expect(await busy.from.isAtEnd()).toBe(true);
  expect(await stopped).toBe(0);
});

test('an upload that stops half way leaves the next one be', async () => {
  const client = await greeted();
  client.to
    .number(OPERATION.AddToStore)
    .text('name')
    .text('text:sha256')
    .texts([])
    .number(0)
    .number(1000)
    .number(7);
  client.send();
  client.socket.end();
  await once(client.socket, 'close');
  await (await greeted()).works();
});
