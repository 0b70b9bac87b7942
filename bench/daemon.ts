import type { Started } from '../test/helpers/cli.ts';
import { launch, runClient, Service } from './processes.ts';

/** Which operation of `grpc-client.ts`, and what that takes. */
export interface Order {
  /** Root of the tree and a list of its files, whose blobs are asked for. */
  readonly root?: string;
  readonly list?: string;
  readonly streams?: number;
  readonly calls?: number;
  /** Of a store path, in hexadecimal. */
  readonly hash?: string;
}

/** Seconds, and how much of a processor the two used meanwhile. */
export interface Used {
  readonly seconds: number;
  readonly client: number;
  readonly server: number;
}

/** A daemon that serves a store of this machine. */
export class Daemon extends Service {
  readonly #at: string;

  /** Resolves when it listens: on `127.0.0.1:0` or the path of a socket. */
  static start(store: string, address: string): Promise<Daemon> {
    const args = ['daemon', '--allow-anonymous-upload', '-l', address, '--store', `local://${store}`];
    return launch(args, 'info: listening', undefined, (child) => new Daemon(child));
  }

  private constructor(child: Started) {
    super(child);
    this.#at = /info: listening at=(\S+)/.exec(this.log)![1]!;
  }

  /** The store as an address of ours. */
  get store(): string {
    return this.#at.startsWith('/') ? `grpc+unix://${this.#at}` : `grpc+http://${this.#at}`;
  }

  /** The port of a daemon that listens on TCP. */
  get port(): number {
    return Number(this.#at.slice(this.#at.lastIndexOf(':') + 1));
  }

  client(operation: string, order: Order): Promise<Used> {
    const target = this.#at.startsWith('/') ? `unix:${this.#at}` : this.#at;
    return runClient('grpc-client.ts', JSON.stringify({ operation, target, server: this.pid, ...order }));
  }
}
