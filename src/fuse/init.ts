import { readSync, writeSync } from 'node:fs';
import { ERRNO } from '../fs/file-system.ts';
import { StoreError } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { OP } from './opcodes.ts';
import * as fuse from './protocol.ts';

const WANTED =
  fuse.INIT.ASYNC_READ |
  fuse.INIT.BIG_WRITES |
  fuse.INIT.DO_READDIRPLUS |
  fuse.INIT.READDIRPLUS_AUTO |
  fuse.INIT.NO_OPEN_SUPPORT |
  fuse.INIT.PARALLEL_DIROPS |
  fuse.INIT.ABORT_ERROR |
  fuse.INIT.MAX_PAGES |
  fuse.INIT.CACHE_SYMLINKS |
  fuse.INIT.NO_OPENDIR_SUPPORT |
  fuse.INIT.EXPLICIT_INVAL_DATA |
  fuse.INIT.INIT_EXT;
/**
 * A handle says which id it is for, and an id is another node's when the kernel has let go of it. So handles are for
 * telling nodes apart, and nobody opens a file by one: a kernel that does not know this flag calls them stale.
 */
const WANTED2 = fuse.INIT2.NO_EXPORT_SUPPORT;
/** Without these, opens would have to be answered, which this file system does not do. */
const REQUIRED = fuse.INIT.NO_OPEN_SUPPORT | fuse.INIT.NO_OPENDIR_SUPPORT;

/** Fields of `fuse_init_in` that are read: major, minor, read-ahead, flags; the upper half of these may be missing. */
const INIT_IN_LENGTH = 16;
const INIT_IN_EXT_LENGTH = 20;

/** Answers the INIT that a mount has just queued on the device (which must still block). */
export function negotiate(fd: number): void {
  const request = Buffer.alloc(fuse.REQUEST_BUFFER_LENGTH);
  const length = readSync(fd, request);
  const reply = Buffer.alloc(fuse.OUT_HEADER_LENGTH + fuse.INIT_OUT_LENGTH);
  if (request.readUInt32LE(4) !== OP.INIT) {
    throw new StoreError('INTERNAL', 'the kernel did not begin with INIT');
  }
  if (writeInitReply(request.subarray(fuse.IN_HEADER_LENGTH, length), reply, fuse.OUT_HEADER_LENGTH) < 0) {
    throw new StoreError('UNIMPLEMENTED', 'the kernel is too old; want Linux 5.4');
  }
  reply.writeUInt32LE(reply.length, 0);
  request.copy(reply, 8, 8, 16);
  writeSync(fd, reply);
}

/** Writes `fuse_init_out` at `reply[at]` for a `fuse_init_in`; gives its length, or an errno for an old kernel. */
export function writeInitReply(init: Buffer, reply: Buffer, at: number): number {
  if (init.length < INIT_IN_LENGTH) return -ERRNO.EPROTO;
  const major = init.readUInt32LE(0);
  const minor = init.readUInt32LE(4);
  const offered = init.readUInt32LE(12);
  const hasMore = (offered & fuse.INIT.INIT_EXT) !== 0 && init.length >= INIT_IN_EXT_LENGTH;
  if (major !== fuse.MAJOR || (offered & REQUIRED) !== REQUIRED) {
    log.error('the kernel is too old; want Linux 5.4', { speaks: `FUSE ${major}.${minor}` });
    return -ERRNO.EPROTO;
  }
  reply.fill(0, at, at + fuse.INIT_OUT_LENGTH);
  reply.writeUInt32LE(fuse.MAJOR, at);
  reply.writeUInt32LE(Math.min(minor, fuse.MINOR), at + 4);
  // Read-ahead: this can only lower the device's own limit, which is raised after mounting.
  reply.writeUInt32LE(fuse.MAX_READ, at + 8);
  reply.writeUInt32LE((offered & WANTED) >>> 0, at + 12);
  reply.writeUInt16LE(fuse.MAX_BACKGROUND, at + 16);
  reply.writeUInt16LE(fuse.CONGESTION_THRESHOLD, at + 18);
  reply.writeUInt32LE(fuse.MAX_WRITE, at + 20);
  reply.writeUInt32LE(1, at + 24);
  reply.writeUInt16LE(fuse.MAX_PAGES, at + 28);
  if (hasMore) reply.writeUInt32LE((init.readUInt32LE(16) & WANTED2) >>> 0, at + 32);
  return fuse.INIT_OUT_LENGTH;
}
