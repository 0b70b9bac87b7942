import type { FSWatcher } from 'node:fs';
import { watch } from 'node:fs';
import { basename } from 'node:path';
import type { Environment } from '../castore/local/environment.ts';
import { PathInfoTable } from '../store/path-info/local.ts';
import { messageOf } from '../util/errors.ts';
import { log } from '../util/log.ts';

/**
 * Calls `changed` when store paths come or go, whichever process brings them. Runs on the main thread: a thread that
 * serves the kernel could wait for itself when it tells that. `undefined` when it cannot be seen: a user can watch so
 * many directories, and no more.
 */
export function watchRoot(env: Environment, changed: () => void): { close(): void } | undefined {
  const { table } = new PathInfoTable(env);
  const count = () => {
    env.refresh();
    return table.count;
  };
  let known = count();
  let watcher: FSWatcher;
  try {
    watcher = watch(env.dir, (_, name) => {
      if (name !== null && name !== basename(env.databasePath)) return;
      const now = count();
      if (now === known) return;
      known = now;
      changed();
    });
  } catch (error) {
    log.warn('cannot watch the store, so that the kernel keeps no listing of it', {
      error: messageOf(error),
    });
    return undefined;
  }
  watcher.on('error', (error) => log.warn('cannot watch the store', { error: error.message }));
  return watcher;
}
