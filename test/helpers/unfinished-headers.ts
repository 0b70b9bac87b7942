/**
 * A program of its own, with `--expose-gc`, that asks a server which never comes to the end of its headers, again and again,
 * and collects its garbage. `test/proto/unfinished-headers.test.ts` looks whether it outlives that.
 */
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { dial } from '../../src/proto/grpc/dial.ts';
import { BLOB } from '../../src/proto/grpc/methods.ts';

const ROUNDS = 12;
const AT_ONCE = 4;
const EMPTY_SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
const HEADERS = 1;
/** Headers that go on, with `:status: 200` in them; and what goes on then, with a header of 100 bytes. */
const BEGIN = Buffer.from([0, 0, 1, HEADERS, 0, 0, 0, 0, 1, 0x88]);
const GO_ON = Buffer.from([0, 0, 104, 9, 0, 0, 0, 0, 1, 0, 1, 0x78, 100, ...Buffer.alloc(100, 'a')]);

function answer(socket: Socket): void {
  let sent = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.write(EMPTY_SETTINGS);
  socket.on('data', (part) => {
    sent = Buffer.concat([sent, part]);
    for (let at = 24; at + 9 <= sent.length; at += 9 + sent.readUIntBE(at, 3)) {
      if (sent.readUInt8(at + 3) !== HEADERS) continue;
      socket.removeAllListeners('data').resume();
      socket.write(BEGIN);
      for (let i = 0; i < 100; i++) socket.write(GO_ON);
      return;
    }
  });
}

if (isMainThread) {
  // In a thread of its own, it answers while this one still sends.
  const server = new Worker(new URL(import.meta.url));
  const port = await new Promise<number>((resolve) => server.once('message', resolve));
  const ask = async () => {
    const channel = await dial(new URL(`grpc+http://127.0.0.1:${port}?protocol=tvix`), { awayMs: 0 });
    await channel.unary(BLOB.stat, { digest: new Uint8Array(32) }).catch(() => {});
    channel.close();
  };
  for (let i = 0; i < ROUNDS; i++) {
    await Promise.all(Array.from({ length: AT_ONCE }, ask));
    globalThis.gc!();
  }
  process.exit();
} else {
  const server = createServer(answer);
  server.listen(0, '127.0.0.1', () => parentPort!.postMessage((server.address() as AddressInfo).port));
}
