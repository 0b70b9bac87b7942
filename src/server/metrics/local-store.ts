import { statfsSync } from 'node:fs';
import type { LocalStore } from '../../castore/local/store.ts';
import type { CheckSummary } from '../../store/keeping/check/record.ts';
import { loadCheck } from '../../store/keeping/check/record.ts';
import { lastCollection } from '../../store/keeping/last-gc.ts';
import { PathInfoTable } from '../../store/path-info/local.ts';
import type { Metric } from './metric.ts';
import { counter, gauge } from './metric.ts';

/** Metrics of a local store, be it a cache: what the database and the file system say without looking through it. */
export function localStoreMetrics({ env }: LocalStore): Metric[] {
  return [...sizeMetrics({ env }), ...cacheMetrics({ env }), ...keepingMetrics(env.dir)];
}

type Local = Pick<LocalStore, 'env'>;

function sizeMetrics({ env }: Local): Metric[] {
  const paths = new PathInfoTable(env).table;
  const tables = { path: paths, directory: env.directories, blob: env.manifests, chunk: env.chunks };
  return [
    gauge(
      'tvix_store_objects',
      'What is in the local store: a blob of one chunk counts only as that.',
      () => {
        env.refresh();
        return new Map(Object.entries(tables).map(([kind, { count }]) => [kind, count]));
      },
      'kind',
    ),
    gauge('tvix_store_database_size_bytes', 'Size of the database.', () => env.databaseSize().bytes),
    gauge('tvix_store_database_used_bytes', 'What of the database is in use.', () => env.databaseSize().used),
    gauge('tvix_store_disk_size_bytes', 'Size of the file system that the local store is on.', () => {
      const { blocks, bsize } = statfsSync(env.dir);
      return blocks * bsize;
    }),
    gauge('tvix_store_disk_free_bytes', 'What is free of that for this user.', () => {
      const { bavail, bsize } = statfsSync(env.dir);
      return bavail * bsize;
    }),
    counter(
      'tvix_store_rotten_chunks_total',
      'Chunks that turned out to be damaged when this process read them.',
      () => env.rotten.found,
    ),
  ];
}

/** Of a cache that this process keeps small. */
function cacheMetrics({ env }: Local): Metric[] {
  const state = () => env.useListener?.state;
  const limit = () => state()?.limit;
  return [
    gauge('tvix_store_cache_size_bytes', 'What the cache holds, as far as it is known.', () => state()?.size),
    gauge('tvix_store_cache_limit_bytes', 'What the cache may hold (--cache-size).', limit),
    counter('tvix_store_cache_evicted_bytes_total', 'Bytes that were evicted.', () => state()?.evicted),
    counter('tvix_store_cache_evictions_total', 'How often something was evicted.', () => state()?.evictions),
  ];
}

function keepingMetrics(dir: string): Metric[] {
  const lastCheck = (value: (last: CheckSummary) => number) => () => {
    const { last } = loadCheck(dir);
    return last ? value(last) : 0;
  };
  return [
    gauge('tvix_store_gc_last_finished_seconds', 'When the last collection ended, 0 for never.', () =>
      Math.floor((lastCollection(dir)?.finished ?? 0) / 1000),
    ),
    gauge(
      'tvix_store_gc_last_paths',
      'Store paths that the last collection deleted.',
      () => lastCollection(dir)?.paths ?? 0,
    ),
    gauge(
      'tvix_store_fsck_last_finished_seconds',
      'When the last fsck of the store ended, 0 for never.',
      lastCheck(({ finished }) => Math.floor(finished / 1000)),
    ),
    gauge(
      'tvix_store_fsck_damaged_rows',
      'Damaged rows that the last fsck found, and did not repair.',
      lastCheck(({ damages, structure, isRepaired }) => (isRepaired ? 0 : damages + structure)),
    ),
    gauge(
      'tvix_store_fsck_damaged_paths',
      'Store paths that the last fsck found to be damaged, hidden or missing.',
      lastCheck((last) => (last.isRepaired ? 0 : last.damagedPaths + last.hiddenPaths + last.missingPaths)),
    ),
  ];
}
