import { watch } from 'node:fs';
import { basename } from 'node:path';
import type { Environment } from '../castore/local/environment.ts';
import { ROOT_ID } from '../fs/file-system.ts';
import { invalidateNode } from '../fuse/notify.ts';
import { PathInfoTable } from '../store/path-info/local.ts';
import { log } from '../util/log.ts';

/**
 * Tells the kernel to forget its listing of the root when store paths come or go, whichever process brings
 * them. Runs on the main thread: a thread that serves the kernel could wait here for itself.
 */
export function watchRoot(env: Environment, fd: number): { close(): void } {
  const { table } = new PathInfoTable(env);
  const count = () => {
    env.refresh();
    return table.count;
  };
  let known = count();
  const watcher = watch(env.dir, (_, name) => {
    if (name !== null && name !== basename(env.databasePath)) return;
    const now = count();
    if (now === known) return;
    known = now;
    invalidateNode(fd, ROOT_ID);
  });
  watcher.on('error', (error) => log.warn('cannot watch the store', { error: error.message }));
  return watcher;
}
