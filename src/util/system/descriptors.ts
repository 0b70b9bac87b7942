import { readdirSync, readlinkSync } from 'node:fs';

/** The open files of this process: the path of each by descriptor, as the kernel names it now. */
export function openDescriptors(): Map<number, string> {
  const open = new Map<number, string>();
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      open.set(Number(fd), readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      // The one by which these are listed.
    }
  }
  return open;
}
