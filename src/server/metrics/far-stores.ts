import { peersAway } from '../../util/async/outage.ts';
import type { Metric } from './metric.ts';
import { gauge } from './metric.ts';

/** Metrics of the stores that this process asks. */
export function farStoreMetrics(): Metric[] {
  const away = () => new Map(peersAway().map((peer) => [peer, 1]));
  return [
    gauge(
      'tvix_store_far_away',
      '1 for a store that is away, as the last request has found it.',
      away,
      'store',
    ),
  ];
}
