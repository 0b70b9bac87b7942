import { writeSync } from 'node:fs';
import { systemCode } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { NOTIFY, OUT_HEADER_LENGTH } from './protocol.ts';

/**
 * Makes the kernel forget the pages of a node: a file's contents, or a directory's listing. Not to be
 * called from a thread that serves the kernel, which could wait here for itself.
 */
export function invalidateNode(fd: number, id: number): void {
  // `fuse_notify_inval_inode_out`: node, offset, length; 0 and -1 for all of its pages.
  const message = Buffer.alloc(OUT_HEADER_LENGTH + 24);
  message.writeUInt32LE(message.length, 0);
  message.writeInt32LE(NOTIFY.INVAL_INODE, 4);
  message.writeBigUInt64LE(BigInt(id), OUT_HEADER_LENGTH);
  message.writeBigInt64LE(-1n, OUT_HEADER_LENGTH + 16);
  try {
    writeSync(fd, message);
  } catch (error) {
    // ENOENT: the kernel has no such pages.
    if (systemCode(error) !== 'ENOENT') log.debug('cannot invalidate', { id, error: systemCode(error) });
  }
}
