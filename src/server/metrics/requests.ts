import type { Begun } from '../../util/metrics/counts.ts';
import { Counts, Latencies, UnderWay } from '../../util/metrics/counts.ts';
import type { Metric } from './metric.ts';
import { counter, gauge, histogram } from './metric.ts';

/** Counts the requests and connections of a server that speaks one protocol. */
export class RequestCounts {
  readonly underWay = new UnderWay();
  readonly latencies = new Latencies();
  readonly failures = new Counts();
  sent = 0;
  received = 0;

  /** A request of a kind has been answered: well, or with a failure of this code. */
  answered(begun: Begun, kind: string, failure?: string): void {
    this.latencies.observe(kind, this.underWay.end(begun));
    if (failure !== undefined) this.failures.add(failure);
  }
}

/** Those of gRPC, by method, and of Nix's daemon, by operation. */
export function requestMetrics(protocol: 'grpc' | 'worker', kind: string, counts: RequestCounts): Metric[] {
  const name = `tvix_store_${protocol}`;
  return [
    histogram(
      `${name}_request_seconds`,
      `How long requests took, by ${kind}.`,
      () => counts.latencies.all(),
      kind,
    ),
    counter(`${name}_failures_total`, 'Requests that failed, by code.', () => counts.failures.all(), 'code'),
    counter(`${name}_sent_bytes_total`, 'Bytes of answers that were sent.', () => counts.sent),
    counter(`${name}_received_bytes_total`, 'Bytes of requests that were received.', () => counts.received),
    ...underWayMetrics(name, counts.underWay),
  ];
}

/** Those of requests that are being answered. `name`: what theirs begin with. */
export function underWayMetrics(name: string, underWay: UnderWay): Metric[] {
  return [
    gauge(`${name}_requests_running`, 'Requests that are being answered.', () => underWay.count),
    gauge(`${name}_oldest_request_seconds`, 'The age of the oldest of them; 0 when there is none.', () =>
      underWay.oldest ? (performance.now() - underWay.oldest.at) / 1000 : 0,
    ),
  ];
}
