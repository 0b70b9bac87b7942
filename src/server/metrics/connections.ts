import type { Socket } from 'node:net';
import type { Metric } from './metric.ts';
import { counter, gauge } from './metric.ts';

/** Counts the connections of a server. `Of` is what it knows one by. */
export class ConnectionCounts<Of extends object> {
  /** Those that are open, and whether they have asked for something. */
  readonly #open = new Map<Of, boolean>();
  #all = 0;
  #used = 0;

  opened(connection: Of, socket: Socket): void {
    this.#all++;
    this.#open.set(connection, false);
    socket.once('close', () => {
      if (this.#open.get(connection)) this.#used--;
      this.#open.delete(connection);
    });
  }

  /** Something is asked for. */
  asked(connection: Of): void {
    if (this.#open.get(connection) !== false) return;
    this.#open.set(connection, true);
    this.#used++;
  }

  metrics(protocol: string): Metric[] {
    const states = () =>
      new Map([
        ['silent', this.#open.size - this.#used],
        ['used', this.#used],
      ]);
    return [
      gauge(
        `tvix_store_${protocol}_connections`,
        'Connections that are open: silent ones have asked for nothing yet.',
        states,
        'state',
      ),
      counter(`tvix_store_${protocol}_connections_total`, 'Connections that were opened.', () => this.#all),
    ];
  }
}
