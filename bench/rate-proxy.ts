/**
 * A slow line, in a process of its own:
 *
 *   rate-proxy.ts PORT RATE
 *
 * prints on standard error the port at which it listens, and leads each connection to PORT. What comes from there is
 * handed on at RATE bytes a second, of all connections together; what goes there, at once.
 */
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** What is handed on at once: some 2 ms of a line of 10 MB/s. */
const STEP = 16 << 10;

const [port, rate] = process.argv.slice(2).map(Number) as [number, number];
/** What the line may catch up on, in milliseconds. */
const LATE_MS = 50;
/** When the line is free again, in the milliseconds of `performance.now()`. */
let free = 0;

const server = createServer({ noDelay: true }, (near) => {
  const far = connect({ host: '127.0.0.1', port, noDelay: true });
  for (const socket of [near, far]) {
    socket.on('error', () => {});
    socket.once('close', () => {
      near.destroy();
      far.destroy();
    });
  }
  near.pipe(far);
  void carry(far, near);
});

async function carry(from: Socket, to: Socket): Promise<void> {
  try {
    for await (const data of from as AsyncIterable<Buffer>) {
      for (let at = 0; at < data.length; at += STEP) {
        const part = data.subarray(at, at + STEP);
        // What timers make late is made up for.
        free = Math.max(free, performance.now() - LATE_MS) + (part.length / rate) * 1000;
        const wait = free - performance.now();
        if (wait > 1) await delay(wait);
        if (!to.write(part)) await once(to, 'drain');
      }
    }
    to.end();
  } catch {
    to.destroy();
  }
}

server.listen(0, '127.0.0.1');
await once(server, 'listening');
console.error(`listening at ${(server.address() as AddressInfo).port}`);
