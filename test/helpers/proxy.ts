import { once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { afterAll } from 'vitest';

/** What gets through during this is handed on at once, in milliseconds. */
const STEP_MS = 20;

const started: TcpProxy[] = [];

afterAll(() => {
  for (const proxy of started) proxy.close();
});

/** Stands between a client and a server: counts what passes, and makes a network out of loopback. */
export class TcpProxy {
  /** Bytes from client to server, and back. */
  up = 0;
  down = 0;
  /** Times that the client had something to say: a call makes one or two. */
  sent = 0;
  /** Connections that were made. */
  connections = 0;
  /** How long a round trip takes, in milliseconds; half of it each way. */
  roundTrip = 0;
  /** Bytes a second that get through, each way on each connection. */
  rate = Number.POSITIVE_INFINITY;
  /** Whether the connections share that, as those over one line do. */
  isOneLine = false;
  /** Bytes that the network itself takes before it has them through, each way on each connection. */
  holds = Number.POSITIVE_INFINITY;
  /** Where connections are led to, a port or the path of a socket; may change. */
  target: number | string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** When the line is free again, up and down. */
  readonly #lines = [{ free: 0 }, { free: 0 }] as const;
  #gate: PromiseWithResolvers<void> | undefined;
  /** Of which nothing gets through any more. */
  readonly #forgotten = new WeakSet<Socket>();
  /** Parts on their way to the client of which a byte is still to be changed. */
  #toCorrupt = 0;

  private constructor(target: number | string) {
    this.target = target;
    this.#server = createServer({ noDelay: true }, (client) => this.#accept(client));
  }

  static async start(target: number | string): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    started.push(proxy);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    return `grpc+http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** From now on nothing gets through, and nobody is told. */
  stall(): void {
    this.#gate ??= Promise.withResolvers<void>();
  }

  /** What was held back goes on its way. */
  flow(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  /** Lets nothing more through the connections that are open, and tells nobody, as a router that forgot them would. */
  forget(): void {
    for (const socket of this.#sockets) this.#forgotten.add(socket);
  }

  /** Changes a byte in each of the next parts that go to clients. */
  corrupt(parts: number): void {
    this.#toCorrupt = parts;
  }

  /** Breaks every connection that is open, as a host that restarted would. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** The bytes that pass during a piece of work. */
  async count<T>(work: () => Promise<T>): Promise<{ result: T; up: number; down: number }> {
    const { up, down } = this;
    const result = await work();
    return { result, up: this.up - up, down: this.down - down };
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(client: Socket): void {
    this.connections++;
    const { target } = this;
    const server =
      typeof target === 'string'
        ? connect(target)
        : connect({ port: target, host: '127.0.0.1', noDelay: true });
    const [up, down] = this.isOneLine ? this.#lines : [{ free: 0 }, { free: 0 }];
    this.#forward(client, server, up, (part) => {
      this.up += part.length;
      this.sent++;
      return part;
    });
    this.#forward(server, client, down, (part) => {
      this.down += part.length;
      return this.#worn(part);
    });
  }

  /** A part as it goes on to the client. */
  #worn(part: Buffer): Buffer {
    if (this.#toCorrupt === 0) return part;
    this.#toCorrupt--;
    const worn = Buffer.from(part);
    const at = Math.floor(worn.length / 2);
    worn[at] = worn[at]! ^ 0x10;
    return worn;
  }

  #forward(from: Socket, to: Socket, line: { free: number }, pass: (part: Buffer) => Buffer): void {
    this.#sockets.add(from);
    let chain = Promise.resolve();
    let held = 0;
    const after = (step: () => void, bytes = 0) => {
      const due = Math.max(performance.now(), line.free) + this.roundTrip / 2;
      line.free = due - this.roundTrip / 2 + (bytes / this.rate) * 1000;
      chain = chain.then(async () => {
        const wait = due - performance.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        while (this.#gate) await this.#gate.promise;
        if (!this.#forgotten.has(from)) step();
      });
    };
    const forward = (part: Buffer) => {
      held += part.length;
      if (held > this.holds) from.pause();
      after(() => {
        held -= part.length;
        if (held <= this.holds && from.isPaused()) from.resume();
        const passed = pass(part);
        if (!to.destroyed && !to.write(passed)) {
          from.pause();
          to.once('drain', () => from.resume());
        }
      }, part.length);
    };
    from.on('data', (data: Buffer) => {
      // On a slow line, not 64 KiB after a silence, but little by little.
      const step = Math.max(1, Math.min(data.length, Math.floor((this.rate * STEP_MS) / 1000)));
      for (let at = 0; at < data.length; at += step) forward(data.subarray(at, at + step));
    });
    from.on('end', () => after(() => to.end()));
    from.on('error', () => to.resetAndDestroy());
    from.on('close', () => {
      this.#sockets.delete(from);
      after(() => to.destroySoon());
    });
  }
}
