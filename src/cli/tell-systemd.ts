import type { HealthCheck } from '../server/health.ts';
import { isServing, wordsFor } from '../server/health.ts';
import { notifySystemd, watchdogMs } from '../util/system/systemd.ts';

/** How often it is looked how the process is, in milliseconds, if systemd does not want to know more often. */
const LOOK_MS = 5000;
/** How often systemd is told within the time after which it takes the process for stuck. */
const TOLD_WITHIN = 3;

/**
 * Tells systemd how the process is as long as it runs (`STATUS=`), and that it is not stuck (`WATCHDOG=1`), if it asks for
 * that. A store that is away is no reason to be started anew.
 */
export function tellSystemd(check: HealthCheck): void {
  if (!process.env.NOTIFY_SOCKET) return;
  const limit = watchdogMs();
  let said = '';
  const look = async () => {
    const health = await check.now();
    const words = wordsFor(health);
    if (words !== said) notifySystemd(`STATUS=${words}`);
    said = words;
    if (limit !== undefined && (isServing(health) || health.status === 'stopping'))
      notifySystemd('WATCHDOG=1');
  };
  void look();
  setInterval(() => void look(), limit === undefined ? LOOK_MS : limit / TOLD_WITHIN).unref();
}
