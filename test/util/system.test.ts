import { once } from 'node:events';
import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { CallBuffer } from '../../src/util/system/call-buffer.ts';
import { drainEventfd, makeEventfd, raiseEventfd } from '../../src/util/system/eventfd.ts';
import { libc } from '../../src/util/system/libc.ts';
import { PollSet } from '../../src/util/system/poll-set.ts';
import { widenSendBuffer } from '../../src/util/system/unix-socket.ts';
import { tempDir } from '../helpers/temp.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

test('memory that a system call is given by its address stays where it is, however small', () => {
  const buffers = Array.from({ length: 2000 }, (_, i) => new CallBuffer(8 + (i % 128)));
  // What lies between them in a heap goes, so that a collector has a reason to move them.
  const rubbish: Uint8Array[] = [];
  for (let i = 0; i < 200_000; i++) rubbish.push(new Uint8Array(i % 64));
  rubbish.length = 0;
  for (let i = 0; i < 3; i++) collectGarbage();
  const eventfd = makeEventfd();
  for (const { bytes, address } of buffers) {
    bytes.fill(0xff);
    raiseEventfd(eventfd);
    expect(libc.read(eventfd, address, 8)).toBe(8);
    expect(bytes.readBigUInt64LE()).toBe(1n);
    expect(bytes.subarray(8).every((byte) => byte === 0xff)).toBe(true);
  }
  closeSync(eventfd);
});

test('an eventfd is readable from when it is raised until it is drained', () => {
  const [first, second] = [makeEventfd(), makeEventfd()];
  const poll = new PollSet(3);
  poll.watch(0, first);
  poll.watch(2, second);
  expect(poll.wait(3, 0)).toBe(false);
  raiseEventfd(second);
  raiseEventfd(second);
  expect([poll.wait(3, 1000), poll.readable(0), poll.readable(1), poll.readable(2)]).toEqual([
    true,
    false,
    false,
    true,
  ]);
  drainEventfd(second);
  expect(poll.wait(3, 0)).toBe(false);
  // Nobody blocks on one that was not raised.
  drainEventfd(second);
  for (const fd of [first, second]) closeSync(fd);
});

/** Bytes that wait in this process for a peer that reads nothing, a while after so many were written. */
async function untaken(prepare: (socket: Socket) => void): Promise<number> {
  const path = join(tempDir(), 'socket');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const peer = connect(path).pause();
  const [socket] = (await once(server, 'connection')) as [Socket];
  prepare(socket);
  socket.write(Buffer.alloc(900_000));
  await delay(200);
  const left = socket.writableLength;
  for (const one of [peer, socket]) one.destroy();
  server.close();
  return left;
}

// For others, the system's limit may be lower.
test.runIf(process.getuid!() === 0)(
  'a socket that was widened takes a MiB before its peer reads',
  async () => {
    expect(await untaken(() => {})).toBeGreaterThan(0);
    expect(await untaken(widenSendBuffer)).toBe(0);
  },
);
