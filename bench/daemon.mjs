import { fileURLToPath } from 'node:url';
import { run, Service } from './processes.mjs';

const CLIENT = fileURLToPath(new URL('./grpc-client.mjs', import.meta.url));

/** A daemon that serves a store of this machine. */
export class Daemon extends Service {
  /** Resolves when it listens: on `127.0.0.1:0` or the path of a socket. */
  static async start(store, address) {
    const daemon = new Daemon();
    await daemon.launch(['daemon', '-l', address, '--store', `local://${store}`], 'info: listening');
    daemon.at = /info: listening at=(\S+)/.exec(daemon.log)[1];
    return daemon;
  }

  /** The store as an address of ours. */
  get store() {
    return this.at.startsWith('/') ? `grpc+unix://${this.at}` : `grpc+http://${this.at}`;
  }

  /** The port of a daemon that listens on TCP. */
  get port() {
    return Number(this.at.slice(this.at.lastIndexOf(':') + 1));
  }

  /** What `grpc-client.mjs` measures of an operation. */
  async client(operation, options) {
    const target = this.at.startsWith('/') ? `unix:${this.at}` : this.at;
    const order = { operation, target, server: this.pid, ...options };
    return JSON.parse(await run(process.execPath, [CLIENT, JSON.stringify(order)]));
  }
}
