import type { Registry } from 'prom-client';
import type { Distribution } from '../../util/metrics/distribution.ts';
import { BOUNDS_MS } from '../../util/metrics/distribution.ts';
import type { Metric } from './metric.ts';

/** Gauges of the package whose names Prometheus takes for those of counters. They say of Node's inside what nobody asks. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

interface Line {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Tells metrics in the text format of Prometheus, and with them those of the process: memory, processor, event loop. */
export class Exposition {
  readonly #registry: Registry;

  private constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Loads the package, which nobody does without who tells no metrics. */
  static async load(metrics: readonly Metric[]): Promise<Exposition> {
    const { collectDefaultMetrics, Registry } = await import('prom-client');
    const registry = new Registry();
    collectDefaultMetrics({ register: registry });
    for (const name of MISNAMED) registry.removeSingleMetric(name);
    const exposition = new Exposition(registry);
    exposition.add(metrics);
    return exposition;
  }

  /** Tells these, too. */
  add(metrics: readonly Metric[]): void {
    for (const metric of metrics) {
      const { name, help, type } = metric;
      const get = async () => ({ name, help, type, values: linesOf(metric), aggregator: 'sum' });
      // The package's own classes keep their values themselves, and know no histogram that was counted elsewhere.
      this.#registry.registerMetric({ name, get } as never);
    }
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}

function linesOf(metric: Metric): Line[] {
  const labelsOf = (kind: string) => {
    const values = kind.split('\t');
    return Object.fromEntries(metric.labels.map((label, i) => [label, values[i]!]));
  };
  if (metric.type !== 'histogram')
    return [...metric.read()].map(([kind, value]) => ({ labels: labelsOf(kind), value }));
  return [...metric.read()].flatMap(([kind, distribution]) =>
    linesOfOne(metric.name, labelsOf(kind), distribution),
  );
}

function linesOfOne(name: string, labels: Line['labels'], { buckets, sumMs }: Distribution): Line[] {
  let count = 0;
  const lines = buckets.map((inBucket, i) => {
    count += inBucket;
    const le = i < BOUNDS_MS.length ? String(BOUNDS_MS[i]! / 1000) : '+Inf';
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count };
  });
  return [
    ...lines,
    { metricName: `${name}_sum`, labels, value: sumMs / 1000 },
    { metricName: `${name}_count`, labels, value: count },
  ];
}
