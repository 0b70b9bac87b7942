import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { tvix } from '../../src/proto/messages.ts';
import { startTvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { asDaemon, startDaemon } from '../helpers/daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import { answered, RawClient } from '../helpers/raw-grpc.ts';
import { localStore, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const { BlobChunk, PutBlobResponse } = tvix.castore.v1;
const STAT = '/snix.castore.v1.BlobService/Stat';
const PUT_BLOB = '/snix.castore.v1.BlobService/Put';
/** As long as a fast stop may take on a busy machine, in milliseconds. */
const SOON_MS = 3000;

describe('a daemon that is to stop', () => {
  const message = (data: Uint8Array) => Buffer.from(BlobChunk.encode({ data }).finish());

  /** Resolves when the server has what this client has sent: on one connection it hears of calls in their order. */
  const arrived = (client: RawClient) => client.call(STAT, Buffer.alloc(0));

  /** A client that has begun an upload and sends no more. */
  async function stalled({ at }: TestDaemon) {
    const client = new RawClient(at);
    await arrived(client);
    const upload = client.open(PUT_BLOB);
    const ended = answered(upload);
    upload.write(message(Buffer.from('and then nothing')));
    await arrived(client);
    return { client, ended };
  }

  test('lets a running call finish, takes no new ones, and ends with 0', async () => {
    const dir = tempDir();
    const daemon = await startDaemon(`local://${dir}/store`);
    const client = new RawClient(daemon.at);
    await arrived(client);
    const upload = client.open(PUT_BLOB);
    const [first, last] = [randomBytes(200_000, 'first'), randomBytes(200_000, 'last')];
    const ended = answered(upload);
    const answer = new Promise<Buffer>((resolve) => upload.once('data', resolve));
    upload.write(message(first));
    await arrived(client);
    const stopped = daemon.stop('SIGTERM');
    while (!daemon.log().includes('info: stopping')) await delay(10);
    const late = new RawClient(daemon.at);
    while ((await late.call(STAT, Buffer.alloc(0))).code !== 'UNAVAILABLE') await delay(10);
    late.close();
    upload.write(message(last));
    upload.end();
    expect(await ended).toMatchObject({ code: 'OK' });
    const begun = Date.now();
    expect(await stopped).toBe(0);
    expect(Date.now() - begun).toBeLessThan(SOON_MS);
    client.close();
    const served = localStore(`${dir}/store`);
    const digest = Digest.of(PutBlobResponse.decode(await answer).digest);
    expect((await readBlob(served, digest))?.equals(Buffer.concat([first, last]))).toBe(true);
    await served.close();
  });

  test('does not wait for connections that do nothing', async () => {
    const daemon = await startDaemon('memory://');
    const client = new RawClient(daemon.at);
    await client.call(STAT, Buffer.alloc(0));
    const silent: Socket = connect(daemon.port, '127.0.0.1');
    silent.on('error', () => {});
    await new Promise((resolve) => silent.once('connect', resolve));
    const begun = Date.now();
    expect(await daemon.stop('SIGINT')).toBe(0);
    expect(Date.now() - begun).toBeLessThan(SOON_MS);
    silent.destroy();
    client.close();
  });

  test('does not wait for ever for a call that does not end', async () => {
    const daemon = await startDaemon('memory://');
    const { client, ended } = await stalled(daemon);
    const begun = Date.now();
    expect(await daemon.stop()).toBe(0);
    expect(Date.now() - begun).toBeLessThan(5000 + SOON_MS);
    expect((await ended).code).not.toBe('OK');
    client.close();
  });

  test('hurries at the second signal, and ends with 0', async () => {
    const daemon = await startDaemon('memory://');
    const { client, ended } = await stalled(daemon);
    const stopped = daemon.stop('SIGTERM');
    while (!daemon.log().includes('info: stopping')) await delay(10);
    const begun = Date.now();
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGTERM'] as const) daemon.child.kill(signal);
    expect(await stopped).toBe(0);
    expect(Date.now() - begun).toBeLessThan(SOON_MS);
    expect((await ended).code).not.toBe('OK');
    client.close();
  });

  test('can be stopped as soon as it listens', async () => {
    const child = await startTvixStore(
      ['daemon', '--store', 'memory://', '-l', '127.0.0.1:0'],
      'info: listening',
    );
    expect(await asDaemon(child).stop('SIGTERM')).toBe(0);
  });
});
