import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where data of this name belongs by default: below /var/lib for root, else in the user's data folder. */
export function defaultDirectory(name: 'tvix-store' | 'tvix-store-cache'): string {
  if (process.getuid?.() === 0) return join('/var/lib', name);
  return join(process.env.XDG_DATA_HOME || join(homedir(), '.local/share'), name);
}
