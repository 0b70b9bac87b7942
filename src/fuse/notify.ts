import { write } from 'node:fs';
import { log } from '../util/log.ts';
import { NOTIFY, OUT_HEADER_LENGTH } from './protocol.ts';

/**
 * Makes the kernel forget the pages of a node: a file's contents, or a directory's listing. It may wait for a
 * page that a reader waits for, and so for us: hence a thread that does nothing else writes it.
 */
export function invalidateNode(fd: number, id: number): void {
  // `fuse_notify_inval_inode_out`: node, offset, length; 0 and -1 for all of its pages.
  const message = Buffer.alloc(OUT_HEADER_LENGTH + 24);
  message.writeUInt32LE(message.length, 0);
  message.writeInt32LE(NOTIFY.INVAL_INODE, 4);
  message.writeBigUInt64LE(BigInt(id), OUT_HEADER_LENGTH);
  message.writeBigInt64LE(-1n, OUT_HEADER_LENGTH + 16);
  write(fd, message, (error) => {
    // ENOENT: the kernel has no such pages.
    if (error && error.code !== 'ENOENT') log.debug('cannot invalidate', { id, error: error.code });
  });
}
