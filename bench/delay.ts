import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer } from 'node:net';

/**
 * Runs `use` with the port of a TCP proxy before `port`, through which a round trip takes so many milliseconds
 * more, the first one of a connection (the handshake) included.
 */
export async function withDelay<T>(
  port: number,
  roundTripMs: number,
  use: (port: number) => Promise<T>,
): Promise<T> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (near) => {
    const far = connect({ host: '127.0.0.1', port, noDelay: true });
    const open = performance.now() + roundTripMs;
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    pass(near, far, open, roundTripMs / 2);
    pass(far, near, open, roundTripMs / 2);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    return await use((server.address() as AddressInfo).port);
  } finally {
    server.close();
    for (const socket of sockets) socket.destroy();
  }
}

/** Hands on what comes, in its order, `delayMs` later, and nothing before the connection is open. */
function pass(from: Socket, to: Socket, open: number, delayMs: number): void {
  const waiting: (() => void)[] = [];
  const later = (work: () => void) => {
    waiting.push(work);
    const due = Math.max(performance.now(), open) + delayMs;
    // Timers of different lengths may fire in another order than they are due.
    setTimeout(() => waiting.shift()!(), due - performance.now());
  };
  from.on('data', (data) =>
    later(() => {
      if (to.write(data)) return;
      from.pause();
      to.once('drain', () => from.resume());
    }),
  );
  from.once('end', () => later(() => to.end()));
}
