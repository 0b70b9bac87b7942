import { Counts, Latencies, UnderWay } from '../../util/metrics/counts.ts';
import type { Metric } from '../metrics/metric.ts';
import { counter, histogram } from '../metrics/metric.ts';
import { underWayMetrics } from '../metrics/requests.ts';
import type { Exchange } from './exchange.ts';

/** Counts what is asked for over HTTP. */
export class HttpCounts {
  readonly #requests = new Counts();
  readonly #sent = new Counts();
  readonly #received = new Counts();
  readonly #latencies = new Latencies();
  readonly #underWay = new UnderWay();

  /** Counts a request; call what it gives when it has been answered. */
  begin(exchange: Exchange): (route: string) => void {
    const begun = this.#underWay.begin();
    return (route) => {
      const method = ['GET', 'HEAD', 'PUT'].includes(exchange.method) ? exchange.method : 'other';
      this.#requests.add(`${route}\t${method}\t${exchange.status}`);
      this.#sent.add(route, exchange.sent);
      this.#received.add(route, exchange.received);
      this.#latencies.observe(`${route}\t${method}`, this.#underWay.end(begun));
    };
  }

  metrics(): Metric[] {
    const name = 'tvix_store_http';
    return [
      counter(
        `${name}_requests_total`,
        'Requests that have been answered.',
        () => this.#requests.all(),
        'route',
        'method',
        'status',
      ),
      counter(`${name}_sent_bytes_total`, 'Bytes of bodies that were sent.', () => this.#sent.all(), 'route'),
      counter(
        `${name}_received_bytes_total`,
        'Bytes of bodies that were received.',
        () => this.#received.all(),
        'route',
      ),
      histogram(
        `${name}_request_seconds`,
        'How long answers took.',
        () => this.#latencies.all(),
        'route',
        'method',
      ),
      ...underWayMetrics(name, this.#underWay),
    ];
  }
}
