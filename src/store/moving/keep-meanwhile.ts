import { setTimeout as delay } from 'node:timers/promises';
import type { BlobService } from '../../castore/blob/service.ts';
import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';

/**
 * What has been copied of paths that are not whole is made durable this often, in milliseconds, and less often where that
 * takes long.
 */
const KEEP_MS = 250;
const KEEP_SHARE = 10;

/** Makes durable, now and then while `work` goes on, what has come so far: if the rest does not come, it is not fetched again. */
export async function keepingMeanwhile<T>(
  to: { readonly blobs: BlobService },
  work: () => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const keeping = keepUntil(to, over.signal);
  try {
    return await work();
  } finally {
    over.abort();
    await keeping;
  }
}

async function keepUntil({ blobs }: { readonly blobs: BlobService }, over: AbortSignal): Promise<void> {
  for (let pause = KEEP_MS; !over.aborted; ) {
    await delay(pause, undefined, { signal: over, ref: false }).catch(() => {});
    if (over.aborted) return;
    const begun = performance.now();
    // Whoever registers a path hears of it if this fails.
    await blobs.flush().catch((error) => log.debug('cannot keep yet', { error: messageOf(error) }));
    // Most of the time is for the copy.
    pause = Math.max(KEEP_MS, KEEP_SHARE * (performance.now() - begun));
  }
}
