import type { FileSystem } from '../fs/file-system.ts';
import { ABSENT_FOREVER, Attributes, ERRNO, ROOT_ID } from '../fs/file-system.ts';
import type { Owner } from '../fs/stat.ts';
import { ROOT } from '../fs/stat.ts';
import type { FilePart } from '../util/system/file-splice.ts';
import { writeInitReply } from './init.ts';
import { CHANGING_OPS, OP } from './opcodes.ts';
import * as fuse from './protocol.ts';
import { Reply } from './reply.ts';

/** Reads of so many bytes are sent from files, where these have what is asked for. */
const FROM_FILES = 128 << 10;

/** No answer is expected. */
export const NO_REPLY = -0x20000;

/** Where a request lies. Under io_uring and virtio, arguments and the rest come apart. */
export interface Request {
  readonly opcode: number;
  readonly nodeId: number;
  /** Whether it runs again because what it lacked has been fetched. */
  readonly resumed: boolean;
  /** The operation's own fixed arguments. */
  readonly args: DataView;
  readonly argsAt: number;
  /** A name, if the operation has one, from `payload[payloadAt]` up to a NUL; or a list. */
  readonly payload: Buffer;
  readonly payloadAt: number;
  readonly payloadEnd: number;
  /** Takes the parts of files that are the body of the reply, in place of `out`, where the transport can send those. */
  readonly files?: FilePart[] | undefined;
}

export interface HandlerOptions {
  /** Whether the root can be listed; else READDIR of it gives EPERM. */
  readonly listRoot: boolean;
  /** Whether extended attributes are shown; else the kernel learns to stop asking. */
  readonly showXattr: boolean;
  /** Whether the kernel can be told that the listing of the root has changed; else it is to keep none. */
  readonly notifies: boolean;
  /** Of every node; root, if nobody is named. */
  readonly owner?: Owner | undefined;
}

/**
 * Answers a request: writes the body of the reply at `out[at]` and gives its length, a negated errno,
 * `MISSING`, or `NO_REPLY`. Depends on nothing but its arguments and the file system, so that it is the
 * same under every transport, and can be run again for the same request.
 */
export type Handler = (request: Request, out: Buffer, at: number) => number;

export function createHandler(fs: FileSystem, options: HandlerOptions): Handler {
  const attributes = new Attributes();
  const reply = new Reply(options.owner ?? ROOT);

  const lookup = (request: Request, at: number): number => {
    const end = nameEnd(request);
    const result = fs.lookup(request.nodeId, request.payload, request.payloadAt, end, attributes);
    if (result === ABSENT_FOREVER) return reply.absentEntry(at);
    return result < 0 ? result : reply.entry(at, attributes);
  };

  const list = (request: Request, at: number, plus: boolean): number => {
    if (request.nodeId === ROOT_ID && !options.listRoot) return -ERRNO.EPERM;
    const cookie = readU64(request.args, request.argsAt + 8);
    const room = Math.min(request.args.getUint32(request.argsAt + 16, true), fuse.MAX_READ);
    const listing = fs.list(request.nodeId, cookie, request.resumed);
    if (typeof listing === 'number') return listing;
    return reply.listing(at, room, listing, plus, attributes);
  };

  const openDirectory = (request: Request, at: number): number => {
    if (!options.listRoot || options.notifies) return -ERRNO.ENOSYS;
    // The kernel stops asking for all directories or for none.
    const isRoot = request.nodeId === ROOT_ID;
    return reply.opened(at, isRoot ? 0 : fuse.FOPEN.KEEP_CACHE | fuse.FOPEN.CACHE_DIR);
  };

  const getXattr = (request: Request, out: Buffer, at: number): number => {
    if (!options.showXattr) return -ERRNO.ENOSYS;
    const isList = request.opcode === OP.LISTXATTR;
    const value = isList
      ? fs.listXattr(request.nodeId)
      : fs.getXattr(request.nodeId, request.payload.toString('latin1', request.payloadAt, nameEnd(request)));
    if (typeof value === 'number') return value;
    const room = request.args.getUint32(request.argsAt, true);
    if (room === 0) return reply.xattrLength(at, value.length);
    if (value.length > room) return -ERRNO.ERANGE;
    out.set(value, at);
    return value.length;
  };

  return (request, out, at) => {
    reply.into(out);
    switch (request.opcode) {
      case OP.LOOKUP:
        return lookup(request, at);
      case OP.GETATTR: {
        const result = fs.attributes(request.nodeId, attributes);
        return result < 0 ? result : reply.attributes(at, attributes);
      }
      case OP.STATX: {
        const result = fs.attributes(request.nodeId, attributes);
        return result < 0 ? result : reply.statx(at, attributes);
      }
      case OP.READ: {
        const offset = readU64(request.args, request.argsAt + 8);
        const length = Math.min(request.args.getUint32(request.argsAt + 16, true), fuse.MAX_READ);
        const inFiles =
          request.files && length >= FROM_FILES ? fs.readFiles(request.nodeId, offset, length) : [];
        if (inFiles.length === 0) return fs.read(request.nodeId, offset, length, out, at);
        request.files?.push(...inFiles);
        return inFiles.reduce((sum, part) => sum + part.length, 0);
      }
      case OP.READDIR:
        return list(request, at, false);
      case OP.READDIRPLUS:
        return list(request, at, true);
      case OP.READLINK:
        return fs.readlink(request.nodeId, out, at);
      case OP.FORGET:
        fs.forget(request.nodeId, readU64(request.args, request.argsAt));
        return NO_REPLY;
      case OP.BATCH_FORGET: {
        const end = Math.min(
          request.payloadEnd,
          request.payloadAt + request.args.getUint32(request.argsAt, true) * FORGET_ONE_LENGTH,
        );
        for (let one = request.payloadAt; one + FORGET_ONE_LENGTH <= end; one += FORGET_ONE_LENGTH) {
          fs.forget(bufferU64(request.payload, one), bufferU64(request.payload, one + 8));
        }
        return NO_REPLY;
      }
      case OP.STATFS:
        return reply.statfs(at, fs.usage());
      case OP.GETXATTR:
      case OP.LISTXATTR:
        return getXattr(request, out, at);
      case OP.INIT:
        // A kernel that begins knows no nodes, whatever became of the one before it.
        fs.forgetAll();
        return writeInitReply(request.payload.subarray(request.payloadAt, request.payloadEnd), out, at);
      case OP.DESTROY:
        fs.forgetAll();
        return 0;
      case OP.OPENDIR:
        return openDirectory(request, at);
      case OP.RELEASE:
      case OP.RELEASEDIR:
        return 0;
      default:
        // A mount can be made writable from outside, which changes nothing.
        if (CHANGING_OPS.has(request.opcode)) return -ERRNO.EROFS;
        // Answered so once, the kernel never asks again for OPEN, OPENDIR, FLUSH, ACCESS and the like, and
        // does by itself what we would have answered.
        return -ERRNO.ENOSYS;
    }
  };
}

const FORGET_ONE_LENGTH = 16;

/** Length of the fixed arguments before an operation's payload. */
export function argsLength(opcode: number): number {
  if (opcode === OP.GETXATTR || opcode === OP.BATCH_FORGET) return 8;
  return 0;
}

function nameEnd(request: Request): number {
  const end = request.payload.indexOf(0, request.payloadAt);
  return end < 0 || end > request.payloadEnd ? request.payloadEnd : end;
}

/** Exact up to 2^53. */
export function readU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
}

function bufferU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 0x1_0000_0000;
}
