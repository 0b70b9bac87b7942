import { libc } from './libc.ts';

const M_MMAP_THRESHOLD = -3;
const LARGE = 128 << 10;
/** A process that takes more, in bytes, looks for what it has freed so often, in milliseconds. */
const MUCH = 256 << 20;
const EVERY_MS = 2000;

/**
 * Has the C library give memory back to the system that has been freed: large pieces at once, as it does until the first
 * of them is, and the others now and then. For programs that hold much for a while, and then little; only where it is glibc.
 */
export function giveBackFreedMemory(): void {
  try {
    libc.mallopt(M_MMAP_THRESHOLD, LARGE);
    setInterval(() => {
      if (process.memoryUsage.rss() > MUCH) libc.malloc_trim(0);
    }, EVERY_MS).unref();
  } catch {
    // Others have no such calls.
  }
}
