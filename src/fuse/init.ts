import { readSync, writeSync } from 'node:fs';
import { StoreError } from '../util/errors.ts';
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
/** Without these, opens would have to be answered, which this file system does not do. */
const REQUIRED = fuse.INIT.NO_OPEN_SUPPORT | fuse.INIT.NO_OPENDIR_SUPPORT;

/** Answers the INIT that a mount has just queued on the device (which must still block). */
export function negotiate(fd: number): void {
  const request = Buffer.alloc(fuse.REQUEST_BUFFER_LENGTH);
  const length = readSync(fd, request);
  const reply = Buffer.alloc(fuse.OUT_HEADER_LENGTH + fuse.INIT_OUT_LENGTH);
  if (length < fuse.IN_HEADER_LENGTH + 16 || request.readUInt32LE(4) !== fuse.OP.INIT) {
    throw new StoreError('INTERNAL', 'the kernel did not begin with INIT');
  }
  writeInitReply(request, fuse.IN_HEADER_LENGTH, reply, fuse.OUT_HEADER_LENGTH);
  reply.writeUInt32LE(reply.length, 0);
  request.copy(reply, 8, 8, 16);
  writeSync(fd, reply);
}

/** Writes `fuse_init_out` for the `fuse_init_in` at `request[at]`. Throws UNIMPLEMENTED for an old kernel. */
export function writeInitReply(request: Buffer, at: number, reply: Buffer, out: number): void {
  const major = request.readUInt32LE(at);
  const minor = request.readUInt32LE(at + 4);
  const offered = request.readUInt32LE(at + 12);
  if (major !== fuse.MAJOR || (offered & REQUIRED) !== REQUIRED) {
    throw new StoreError(
      'UNIMPLEMENTED',
      `the kernel speaks FUSE ${major}.${minor}, which is too old; want Linux 5.4`,
    );
  }
  reply.writeUInt32LE(fuse.MAJOR, out);
  reply.writeUInt32LE(Math.min(minor, fuse.MINOR), out + 4);
  // Read-ahead: this can only lower the device's own limit, which is raised after mounting.
  reply.writeUInt32LE(fuse.MAX_READ, out + 8);
  reply.writeUInt32LE((offered & WANTED) >>> 0, out + 12);
  reply.writeUInt16LE(fuse.MAX_BACKGROUND, out + 16);
  reply.writeUInt16LE(fuse.CONGESTION_THRESHOLD, out + 18);
  reply.writeUInt32LE(fuse.MAX_WRITE, out + 20);
  reply.writeUInt32LE(1, out + 24);
  reply.writeUInt16LE(fuse.MAX_PAGES, out + 28);
}
