import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { CheckSummary } from '../../store/keeping/check/record.ts';
import { loadCheck } from '../../store/keeping/check/record.ts';
import type { Exchange } from './exchange.ts';

/** Metrics of the server, for Prometheus. */
export class HttpMetrics {
  readonly #registry = new Registry();
  readonly #labels = ['route', 'method', 'status'] as const;
  readonly #requests = new Counter({
    name: 'tvix_store_http_requests_total',
    help: 'Requests that have been answered.',
    labelNames: this.#labels,
    registers: [this.#registry],
  });
  readonly #sent = new Counter({
    name: 'tvix_store_http_sent_bytes_total',
    help: 'Bytes of bodies that were sent.',
    labelNames: ['route'],
    registers: [this.#registry],
  });
  readonly #received = new Counter({
    name: 'tvix_store_http_received_bytes_total',
    help: 'Bytes of bodies that were received.',
    labelNames: ['route'],
    registers: [this.#registry],
  });
  readonly #seconds = new Histogram({
    name: 'tvix_store_http_request_seconds',
    help: 'How long answers took, in seconds.',
    labelNames: ['route', 'method'],
    buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600],
    registers: [this.#registry],
  });
  readonly #running = new Gauge({
    name: 'tvix_store_http_requests_running',
    help: 'Requests that are being answered.',
    registers: [this.#registry],
  });

  /** `dir`: of the local store that is served, if it is one. */
  constructor(dir?: string) {
    collectDefaultMetrics({ register: this.#registry });
    if (dir !== undefined) this.#tellOfChecks(dir);
  }

  /** The result of the last fsck, when there was one. */
  #tellOfChecks(dir: string): void {
    const gauge = (name: string, help: string, value: (last: CheckSummary) => number) =>
      new Gauge({
        name: `tvix_store_fsck_${name}`,
        help,
        registers: [this.#registry],
        collect() {
          const { last } = loadCheck(dir);
          if (last) this.set(value(last));
          else this.reset();
        },
      });
    gauge('last_finished_seconds', 'When the last fsck of the store ended, 0 for never.', ({ finished }) =>
      Math.floor(finished / 1000),
    );
    gauge(
      'damaged_rows',
      'Damaged rows that the last fsck found, and did not repair.',
      ({ damages, structure, isRepaired }) => (isRepaired ? 0 : damages + structure),
    );
    gauge(
      'damaged_paths',
      'Store paths that the last fsck found to be damaged, hidden or missing.',
      (last) => (last.isRepaired ? 0 : last.damagedPaths + last.hiddenPaths + last.missingPaths),
    );
  }

  /** Counts a request; call what it gives when it has been answered. */
  begin(exchange: Exchange): (route: string) => void {
    const begun = performance.now();
    this.#running.inc();
    return (route) => {
      const method = ['GET', 'HEAD', 'PUT'].includes(exchange.method) ? exchange.method : 'other';
      this.#running.dec();
      this.#requests.inc({ route, method, status: exchange.status });
      this.#sent.inc({ route }, exchange.sent);
      this.#received.inc({ route }, exchange.received);
      this.#seconds.observe({ route, method }, (performance.now() - begun) / 1000);
    };
  }

  /** In the text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}
