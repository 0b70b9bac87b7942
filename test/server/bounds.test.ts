import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Digest } from '../../src/castore/digest.ts';
import { DigestHasher } from '../../src/castore/digest.ts';
import { tvix } from '../../src/proto/messages.ts';
import type { Store } from '../../src/store/services.ts';
import { directoryOf } from '../contract/directories.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { openAt, startDaemon } from '../helpers/daemon.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { answered, RawClient } from '../helpers/raw-grpc.ts';
import { readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const { BlobChunk, GetDirectoryRequest, ReadBlobRequest, StatBlobRequest } = tvix.castore.v1;
const STAT = '/tvix.castore.v1.BlobService/Stat';
const READ = '/tvix.castore.v1.BlobService/Read';
const PUT_BLOB = '/tvix.castore.v1.BlobService/Put';
const GET_DIRECTORY = '/tvix.castore.v1.DirectoryService/Get';
const PUT_DIRECTORY = '/tvix.castore.v1.DirectoryService/Put';
const MIB = 1 << 20;
/** What bad clients may cost the daemon; what they would cost without bounds is several times this. */
const MEMORY = 500 * MIB;
/** As long as a small request may take beside bad clients, in milliseconds. */
const UNDISTURBED_MS = 5000;
const LARGE = 32 * MIB;

const message = (data: Uint8Array) => Buffer.from(BlobChunk.encode({ data }).finish());

describe('a daemon with bad clients', () => {
  let daemon: TestDaemon;
  let good: Store;
  let large: Digest;
  let baseline: number;
  const clients: RawClient[] = [];
  const badClient = () => {
    const client = new RawClient(daemon.at);
    clients.push(client);
    return client;
  };

  beforeEach(async () => {
    daemon = await startDaemon(`local://${tempDir()}/store`);
    good = await openAt(daemon.url);
    const part = randomBytes(MIB, 'large');
    large = (
      await good.blobs.put(
        (function* () {
          for (let i = 0; i < LARGE / MIB; i++) {
            part.writeUInt32LE(i);
            yield Buffer.from(part);
          }
        })(),
      )
    ).digest;
    await readBlob(good, large);
    baseline = daemon.rss();
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await good.close();
    await daemon.stop('SIGKILL');
  });

  /** Ends calls; resolves when the client, which is in this process too, is done with them. */
  async function cancel(calls: readonly ClientDuplexStream<Buffer, Buffer>[]): Promise<void> {
    const ended = Promise.all(calls.map(answered));
    for (const call of calls) call.cancel();
    await ended;
  }

  /** That others go on, and that memory stays in bounds, while something bad goes on. */
  async function undisturbed(): Promise<void> {
    for (let i = 0; i < 5; i++) {
      const begun = performance.now();
      const contents = randomBytes(1000, `good ${i}`);
      const { digest } = await good.blobs.put(contents);
      expect((await readBlob(good, digest))?.equals(contents)).toBe(true);
      expect(performance.now() - begun).toBeLessThan(UNDISTURBED_MS);
      expect((daemon.rss() - baseline) / MIB).toBeLessThan(MEMORY / MIB);
      await delay(100);
    }
    expect(daemon.child.exitCode).toBe(null);
  }

  test('that never read their answers', async () => {
    const request = Buffer.from(ReadBlobRequest.encode({ digest: large.bytes }).finish());
    const calls: ClientDuplexStream<Buffer, Buffer>[] = [];
    for (let i = 0; i < 4; i++) {
      const client = badClient();
      for (let j = 0; j < 32; j++) {
        const call = client.open(READ);
        call.end(request);
        calls.push(call);
      }
    }
    await delay(500);
    await undisturbed();
    await cancel(calls);
    await undisturbed();
  });

  test('that read by fits and starts, who get the right bytes', async () => {
    const request = Buffer.from(ReadBlobRequest.encode({ digest: large.bytes }).finish());
    const read = async () => {
      const call = badClient().open(READ);
      call.end(request);
      const hasher = new DigestHasher();
      let count = 0;
      for await (const part of call) {
        hasher.update(BlobChunk.decode(part as Buffer).data);
        // So that some of it waits in the daemon, in the kernel, and on the way.
        if (count++ % 7 === 0) await delay(20);
      }
      return hasher.digest().hex;
    };
    const digests = await Promise.all(Array.from({ length: 6 }, read));
    expect(new Set(digests)).toEqual(new Set([large.hex]));
  });

  test('that never read a closure', async () => {
    const leaves = Array.from({ length: 3000 }, (_, i) => directoryOf({ leaf: String(i).padEnd(4000, '.') }));
    const root = directoryOf(Object.fromEntries(leaves.map((leaf, i) => [`leaf-${i}`, leaf])));
    const putter = good.directories.putMany();
    for (const leaf of [...leaves, root]) await putter.add(leaf);
    await putter.close();
    const request = { digest: root.digest.bytes, recursive: true };
    const calls = Array.from({ length: 64 }, () => {
      const call = badClient().open(GET_DIRECTORY);
      call.end(Buffer.from(GetDirectoryRequest.encode(request).finish()));
      return call;
    });
    await delay(500);
    await undisturbed();
    await cancel(calls);
  });

  test('that stop in the middle of an upload', async () => {
    const part = randomBytes(MIB, 'half-way');
    const client = badClient();
    const calls = Array.from({ length: 100 }, () => {
      const call = client.open(PUT_BLOB);
      call.write(message(part));
      return call;
    });
    const directories = Array.from({ length: 100 }, (_, i) => {
      const call = client.open(PUT_DIRECTORY);
      call.write(Buffer.from(directoryOf({ half: `way ${i}` }).bytes));
      return call;
    });
    await undisturbed();
    for (const call of calls.slice(0, 50)) call.cancel();
    client.close();
    await undisturbed();
    for (const call of [...calls.slice(50), ...directories]) call.cancel();
    await undisturbed();
  });

  test('whose connection breaks in the middle of an upload', async () => {
    const proxy = await TcpProxy.start(daemon.port);
    const client = new RawClient(proxy.url.slice('grpc+http://'.length));
    clients.push(client);
    const part = randomBytes(300_000, 'broken');
    const calls = Array.from({ length: 20 }, () => client.open(PUT_BLOB));
    const codes = Promise.all(calls.map(answered));
    for (const call of calls) call.write(message(part));
    await delay(300);
    proxy.reset();
    expect((await codes).map(({ code }) => code)).not.toContain('OK');
    await undisturbed();
  });

  test('that send messages which are too large', async () => {
    const tooLarge = message(Buffer.alloc(65 * MIB));
    const codes = await Promise.all(
      Array.from({ length: 3 }, async () => (await badClient().call(PUT_BLOB, tooLarge)).code),
    );
    expect(codes).toEqual(Array(3).fill('RESOURCE_EXHAUSTED'));
    await undisturbed();
  });

  test('that send messages but for the end', async () => {
    const most = Buffer.alloc(61 * MIB, 1);
    const sessions = Array.from({ length: 4 }, () => connectHttp2(`http://${daemon.at}`));
    for (const session of sessions) {
      session.on('error', () => {});
      for (let i = 0; i < 4; i++) {
        const headers = { ':method': 'POST', ':path': PUT_BLOB, 'content-type': 'application/grpc' };
        const stream = session.request(headers);
        stream.on('error', () => {});
        const head = Buffer.alloc(5);
        head.writeUInt32BE(most.length + 1, 1);
        stream.write(head);
        stream.write(most);
      }
    }
    await delay(500);
    await undisturbed();
    expect((daemon.rss() - baseline) / MIB).toBeLessThan(250);
    for (const session of sessions) session.destroy();
  });

  test('that send a large message byte by byte, each with a frame', async () => {
    const session = connectHttp2(`http://${daemon.at}`);
    session.on('error', () => {});
    const headers = { ':method': 'POST', ':path': PUT_DIRECTORY, 'content-type': 'application/grpc' };
    const stream = session.request(headers);
    stream.on('error', () => {});
    stream.write(Buffer.from([0, 3, 0, 0, 0]));
    for (let i = 0; i < 20_000; i++) stream.write(Buffer.alloc(1));
    await undisturbed();
    session.destroy();
  });

  test('that flood it with requests', async () => {
    const request = Buffer.from(StatBlobRequest.encode({ digest: large.bytes }).finish());
    const flood = Promise.all(
      Array.from({ length: 3 }, () => {
        const client = badClient();
        return Promise.all(Array.from({ length: 2000 }, () => client.call(STAT, request)));
      }),
    );
    await undisturbed();
    const codes = new Set((await flood).flat().map(({ code }) => code));
    expect([...codes].filter((code) => code !== 'OK' && code !== 'RESOURCE_EXHAUSTED')).toEqual([]);
  });

  test('that hold as many calls as they can get', async () => {
    const client = badClient();
    const calls = Array.from({ length: 3000 }, () => client.open(PUT_BLOB));
    for (const call of calls) call.write(message(Buffer.from('and then nothing')));
    await delay(300);
    await undisturbed();
    await cancel(calls);
  });

  test('that do not speak HTTP/2', async () => {
    const sockets = Array.from({ length: 50 }, (_, i) => {
      const socket = connect(daemon.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(i % 2 ? 'GET / HTTP/1.1\r\n\r\n' : randomBytes(5000, i));
      return socket;
    });
    await undisturbed();
    for (const socket of sockets) socket.destroy();
  });
});
