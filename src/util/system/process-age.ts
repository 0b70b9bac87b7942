import { readFileSync } from 'node:fs';

/** The clock by which Linux tells when a process began, in milliseconds. */
const TICK_MS = 10;
/** Where in `/proc/PID/stat` it does, counted behind the name, which may contain anything. */
const START_FIELD = 19;

/** Whether a process, or thread, has begun within the last so many milliseconds, give or take a tick. Of one that is unknown, no. */
export function hasBegunWithin(milliseconds: number, pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const ticks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_FIELD]);
    const uptimeMs = 1000 * Number.parseFloat(readFileSync('/proc/uptime', 'latin1'));
    return uptimeMs - ticks * TICK_MS <= milliseconds + TICK_MS;
  } catch {
    return false;
  }
}
