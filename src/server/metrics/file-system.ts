import type { ServedStore } from '../../mount/serve-store.ts';
import type { MountStatistics } from '../../mount/statistics.ts';
import type { Metric } from './metric.ts';
import { counter, gauge, histogram } from './metric.ts';

/** Metrics of a file system that is served to a kernel, this machine's or a guest's. */
export function fileSystemMetrics(served: ServedStore): Metric[] {
  const { fetched, needs } = served;
  let last: MountStatistics | undefined;
  // All that are told at once are of one moment.
  const statistics = () => {
    if (!last) {
      last = served.statistics();
      queueMicrotask(() => {
        last = undefined;
      });
    }
    return last;
  };
  return [
    histogram(
      'tvix_store_fuse_request_seconds',
      'How long requests of the kernel took, by operation.',
      () => statistics().latencies,
      'operation',
    ),
    counter(
      'tvix_store_fuse_misses_total',
      'Requests that had to wait for something to be fetched; the others were hits.',
      () => statistics().misses,
    ),
    gauge(
      'tvix_store_fuse_requests_waiting',
      'Requests that wait now for something to be fetched.',
      () => statistics().waiting,
    ),
    gauge(
      'tvix_store_fuse_oldest_wait_seconds',
      'For how long the oldest request has waited; 0 when none does.',
      () => statistics().oldestMs / 1000,
    ),
    counter(
      'tvix_store_fuse_io_errors_total',
      'Requests that failed with an I/O error, by cause.',
      () => statistics().ioErrors,
      'cause',
    ),
    counter(
      'tvix_store_fuse_read_bytes_total',
      'Bytes of files that were read.',
      () => statistics().bytesRead,
    ),
    counter(
      'tvix_store_fuse_files_read_total',
      'Files of which something was read.',
      () => statistics().filesRead,
    ),
    counter(
      'tvix_store_fuse_paths_entered_total',
      'Store paths that were looked into.',
      () => statistics().entered.length,
    ),
    gauge(
      'tvix_store_fuse_nodes',
      'Files, directories and links that the kernel knows now.',
      () => statistics().nodes,
    ),
    gauge('tvix_store_fuse_guests', 'Virtual machines that are connected.', () => statistics().guests),
    histogram(
      'tvix_store_fetch_seconds',
      'How long it took to get what was not here, by what it was.',
      () => needs.fetches.all(),
      'kind',
    ),
    counter(
      'tvix_store_fetch_failures_total',
      'What was not here, and could not be had, by code.',
      () => needs.failures.all(),
      'code',
    ),
    counter(
      'tvix_store_fetched_objects_total',
      'Objects that came from the far store.',
      () => fetched().objects,
    ),
    counter('tvix_store_fetched_bytes_total', 'Bytes that came from the far store.', () => fetched().bytes),
  ];
}
