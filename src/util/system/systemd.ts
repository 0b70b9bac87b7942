import { closeSync } from 'node:fs';
import { libc } from './libc.ts';
import { socketAddress } from './unix-socket.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;

/** Tells systemd how a service is (`READY=1` and the like), if it asked to be told (`Type=notify`). */
export function notifySystemd(state: string): void {
  const path = process.env.NOTIFY_SOCKET;
  if (!path) return;
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM, 0);
  if (fd < 0) return;
  const address = socketAddress(path);
  const message = Buffer.from(state);
  libc.sendto(fd, message, message.length, 0, address, address.length);
  closeSync(fd);
}
