import { sendDatagram } from './unix-socket.ts';

/** Tells systemd how a service is (`READY=1` and the like), if it asked to be told (`Type=notify`). */
export function notifySystemd(state: string): void {
  const path = process.env.NOTIFY_SOCKET;
  if (path) sendDatagram(path, Buffer.from(state));
}

/** After how many milliseconds without `WATCHDOG=1` systemd takes this process for stuck, if it does that at all. */
export function watchdogMs(): number | undefined {
  const { WATCHDOG_USEC, WATCHDOG_PID } = process.env;
  const ms = Number(WATCHDOG_USEC) / 1000;
  const isForUs = WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === process.pid;
  return isForUs && ms > 0 ? ms : undefined;
}
