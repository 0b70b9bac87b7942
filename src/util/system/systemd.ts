import { sendDatagram } from './unix-socket.ts';

/** Tells systemd how a service is (`READY=1` and the like), if it asked to be told (`Type=notify`). */
export function notifySystemd(state: string): void {
  const path = process.env.NOTIFY_SOCKET;
  if (path) sendDatagram(path, Buffer.from(state));
}
