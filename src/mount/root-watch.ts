import { watch, writeSync } from 'node:fs';
import { basename } from 'node:path';
import type { Environment } from '../castore/local/environment.ts';
import { ROOT_ID } from '../fs/file-system.ts';
import { NOTIFY, OUT_HEADER_LENGTH } from '../fuse/protocol.ts';
import { PathInfoTable } from '../store/path-info/local.ts';
import { systemCode } from '../util/errors.ts';
import { log } from '../util/log.ts';

/**
 * Tells the kernel to forget its listing of the root when store paths come or go, whichever process brings
 * them. Runs on the main thread: a thread that serves the kernel could wait here for itself.
 */
export function watchRoot(env: Environment, fd: number): { close(): void } {
  const { table } = new PathInfoTable(env);
  const count = () => {
    env.refresh();
    return (table.getStats() as { entryCount: number }).entryCount;
  };
  let known = count();
  const watcher = watch(env.dir, (_, name) => {
    if (name !== null && name !== basename(env.databasePath)) return;
    const now = count();
    if (now === known) return;
    known = now;
    invalidateRoot(fd);
  });
  watcher.on('error', (error) => log.warn('cannot watch the store', { error: error.message }));
  return watcher;
}

function invalidateRoot(fd: number): void {
  // `fuse_notify_inval_inode_out`: node, offset, length; 0 and -1 for all of its pages.
  const message = Buffer.alloc(OUT_HEADER_LENGTH + 24);
  message.writeUInt32LE(message.length, 0);
  message.writeInt32LE(NOTIFY.INVAL_INODE, 4);
  message.writeBigUInt64LE(BigInt(ROOT_ID), OUT_HEADER_LENGTH);
  message.writeBigInt64LE(-1n, OUT_HEADER_LENGTH + 16);
  try {
    writeSync(fd, message);
  } catch (error) {
    // ENOENT: the kernel has no such pages.
    if (systemCode(error) !== 'ENOENT') log.debug('cannot invalidate the root', { error: systemCode(error) });
  }
}
