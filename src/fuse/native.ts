import { isUtf8 } from 'node:buffer';
import type { FileSystem, Need } from '../fs/file-system.ts';
import { ABSENT_FOREVER, Attributes, ERRNO, MISSING, ROOT_ID } from '../fs/file-system.ts';
import type { Owner } from '../fs/stat.ts';
import { blocksOf, ROOT, STAT } from '../fs/stat.ts';
import { messageOf } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { UnderWay } from '../util/metrics/counts.ts';
import { observe } from '../util/metrics/distribution.ts';
import { COUNTER, countIoError, latencyCounter, requestCounter, sharedTime } from './counters.ts';
import { OP } from './opcodes.ts';

/** Limits of the fuse-native package, whatever is served through it. Tests skip these by name. */
export const NATIVE_LIMITS = [
  'names that are not UTF-8',
  'absent names are kept',
  'node references are given back',
  'interrupts',
  'inode numbers of 64 bits',
  'time of birth',
  'several readers',
  'one request serves a listing with attributes',
  'opening asks nothing',
  'file handles are refused',
  'a listing is sent in parts',
  'mounts on another mount',
] as const;

type Callback = (error: number, ...results: unknown[]) => void;

export interface NativeOptions {
  readonly listRoot: boolean;
  readonly showXattr: boolean;
  /** Of every node; root, if nobody is named. */
  readonly owner?: Owner | undefined;
  /** Has something fetched; gives 0 or an errno. */
  readonly fetch: (need: Need) => Promise<number>;
}

/**
 * The operations of fuse-native, which speaks in paths, over a file system that speaks in nodes. It counts what is asked: for
 * the package resolves paths, each stands for several requests of the kernel.
 */
export function nativeOperations(fs: FileSystem, options: NativeOptions, counters: Float64Array) {
  const underWay = new UnderWay();
  const countWaiting = () => {
    counters[COUNTER.WAITING] = underWay.count;
    counters[COUNTER.WAITING_SINCE] = underWay.oldest ? sharedTime(underWay.oldest.at) : 0;
  };

  /** Runs something until it has what it needs. */
  const complete = async (run: (resumed: boolean) => number): Promise<number> => {
    for (let resumed = false; ; resumed = true) {
      const result = run(resumed);
      if (result === -ERRNO.EIO) countIoError(counters, 'local');
      if (result !== MISSING) return result;
      counters[COUNTER.PARKED]!++;
      const waiting = underWay.begin();
      countWaiting();
      const errno = await options.fetch(fs.missing());
      underWay.end(waiting);
      countWaiting();
      fs.refresh();
      if (errno === ERRNO.EIO) countIoError(counters, 'fetch');
      if (errno !== 0) return -errno;
    }
  };

  /** Gives back the reference to a node when work on it has ended, well or not. */
  const release = async <T>(id: number, work: () => T | Promise<T>): Promise<T> => {
    try {
      return await work();
    } finally {
      fs.forget(id, 1);
    }
  };

  /** References the node of a path and fills `out`. */
  const resolve = async (path: string, out: Attributes): Promise<number> => {
    let id = ROOT_ID;
    for (const step of path.split('/').filter(Boolean)) {
      const name = Buffer.from(step);
      const parent = id;
      const found = () => complete(() => fs.lookup(parent, name, 0, name.length, out));
      const result = await release(parent, found);
      if (result !== 0) return result === ABSENT_FOREVER ? -ERRNO.ENOENT : result;
      id = out.id;
    }
    return fs.attributes(id, out);
  };

  /** Makes an operation: resolves the path, works on its node, and answers. */
  const operation =
    (
      opcode: number,
      work: (attributes: Attributes, ...args: never[]) => number | unknown[] | Promise<number | unknown[]>,
    ) =>
    (path: string, ...rest: unknown[]): void => {
      const begun = performance.now();
      counters[requestCounter(opcode)]!++;
      const answered = rest.pop() as Callback;
      const callback: Callback = (...results) => {
        answered(...results);
        observe(counters, latencyCounter(opcode), performance.now() - begun);
      };
      const attributes = new Attributes();
      const answer = async () => {
        const found = await resolve(path, attributes);
        if (found < 0) return callback(found);
        const id = attributes.id;
        const result = await release(id, () => work(attributes, ...(rest as never[])));
        if (typeof result === 'number') callback(result);
        else callback(0, ...result);
      };
      answer().catch((error) => {
        log.error('a request failed', { path, error: messageOf(error) });
        countIoError(counters, 'fault');
        callback(-ERRNO.EIO);
      });
    };

  const list = async ({ id }: Attributes): Promise<number | unknown[]> => {
    if (id === ROOT_ID && !options.listRoot) return -ERRNO.EPERM;
    const names: string[] = [];
    const error = await complete((resumed) => {
      const listing = fs.list(id, 0, resumed);
      if (typeof listing === 'number') return listing;
      while (listing.advance()) {
        names.push(Buffer.from(listing.bytes.subarray(listing.nameStart, listing.nameEnd)).toString());
      }
      return 0;
    });
    if (error < 0) return error;
    return [names];
  };

  const operations = {
    getattr: operation(OP.GETATTR, (attributes) => [statOf(attributes, options.owner ?? ROOT)]),
    readdir: operation(OP.READDIR, list),
    readlink: operation(OP.READLINK, async ({ id }) => {
      const target = Buffer.alloc(4096);
      const length = await complete(() => fs.readlink(id, target, 0));
      if (length < 0) return length;
      // The package takes nothing else, and another target would be wrong.
      const isText = isUtf8(target.subarray(0, length));
      return isText ? [target.toString('utf8', 0, length)] : -ERRNO.EIO;
    }),
    read: operation(OP.READ, async ({ id }, _fd: never, buffer: Buffer, length: never, position: never) => {
      const bytes = Buffer.allocUnsafe(length);
      const count = await complete(() => fs.read(id, position, length, bytes, 0));
      if (count > 0) bytes.copy(buffer, 0, 0, count);
      counters[COUNTER.READ_BYTES]! += Math.max(0, count);
      return count;
    }),
    statfs: operation(OP.STATFS, () => {
      const { blocks, free, blockSize } = fs.usage();
      return [
        { bsize: blockSize, frsize: blockSize, blocks, bfree: free, bavail: free, namemax: STAT.nameLength },
      ];
    }),
  };
  if (!options.showXattr) return operations;
  return {
    ...operations,
    getxattr: operation(OP.GETXATTR, ({ id }, name: never) => asResult(fs.getXattr(id, name))),
    listxattr: operation(OP.LISTXATTR, ({ id }) => {
      const names = fs.listXattr(id);
      return typeof names === 'number'
        ? names
        : [Buffer.from(names).toString('latin1').split('\0').filter(Boolean)];
    }),
  };
}

function asResult(value: Uint8Array | number): number | unknown[] {
  return typeof value === 'number' ? value : [value];
}

function statOf({ inodeLow, mode, size }: Attributes, { uid, gid }: Owner) {
  const time = new Date(STAT.time * 1000);
  return {
    ino: inodeLow,
    mode,
    size,
    blocks: blocksOf(mode, size),
    blksize: STAT.blockSize,
    nlink: STAT.links,
    uid,
    gid,
    atime: time,
    mtime: time,
    ctime: time,
  };
}
