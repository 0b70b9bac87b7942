import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Chunk } from '../../src/castore/blob/service.ts';
import { Digest } from '../../src/castore/digest.ts';
import { Directory } from '../../src/castore/directory.ts';
import type { Node } from '../../src/castore/node.ts';
import { parseName, parseSymlinkTarget } from '../../src/castore/node.ts';
import { ERRNO, MISSING, ROOT_ID } from '../../src/fs/file-system.ts';
import { NodeTable } from '../../src/fs/node-table.ts';
import type { Source } from '../../src/fs/source.ts';
import { StoreFileSystem } from '../../src/fs/store-file-system.ts';
import type { Handler } from '../../src/fuse/handler.ts';
import { argsLength, createHandler, NO_REPLY } from '../../src/fuse/handler.ts';
import { OP } from '../../src/fuse/opcodes.ts';
import { ENTRY_LENGTH, MAX_READ } from '../../src/fuse/protocol.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { latin1 } from '../../src/util/bytes.ts';
import { log } from '../../src/util/log.ts';
import { forAll } from '../helpers/arbitraries.ts';

const CONTENTS = Buffer.from('the contents of a file');
const TARGET = 'file';
/** Its own digest is all that is known of it. */
const FAR = Digest.of(new Uint8Array(32).fill(0xfa));

/** A store in memory: one path, with a file, a link, an executable, a directory, and what is not local. */
function makeSource(): { source: Source; info: PathInfo } {
  const digest = Digest.hash(CONTENTS);
  const name = (text: string) => parseName(Buffer.from(text));
  const file = (executable: boolean): Node => ({
    kind: 'file',
    digest,
    size: BigInt(CONTENTS.length),
    executable,
  });
  const empty = Directory.of([]);
  const root = Directory.of([
    [name('file'), file(false)],
    [name('run'), file(true)],
    [name('link'), { kind: 'symlink', target: parseSymlinkTarget(Buffer.from(TARGET)) }],
    [name('empty'), { kind: 'directory', digest: empty.digest, size: empty.size }],
    [name('far'), { kind: 'file', digest: FAR, size: 3_000_000n, executable: false }],
    [name('far-dir'), { kind: 'directory', digest: FAR, size: 7n }],
  ]);
  const directories = new Map([empty, root].map(({ digest: key, bytes }) => [key.hex, bytes]));
  const info: PathInfo = {
    storePath: StorePath.of(new Uint8Array(20).fill(3), 'tree'),
    node: { kind: 'directory', digest: root.digest, size: root.size },
    references: [],
    narSize: 0n,
    narSha256: new Uint8Array(32),
    signatures: [],
  };
  const source: Source = {
    pathInfo: (hash) => (latin1(hash) === latin1(info.storePath.hash) ? info : undefined),
    pathInfosFrom: (from) => (Buffer.compare(from, info.storePath.hash) <= 0 ? [info] : []),
    directory: (key) => directories.get(Digest.of(key).hex),
    manifest: (): readonly Chunk[] | undefined => undefined,
    readChunk: (key, offset, length, out, at) =>
      Digest.of(key).equals(digest) ? CONTENTS.copy(out, at, offset, offset + length) : undefined,
    chunkFile: () => undefined,
    expect: () => true,
    refresh: () => {},
  };
  return { source, info };
}

function makeHandler(remote = true): { handler: Handler; nodes: NodeTable; path: string } {
  const { source, info } = makeSource();
  const nodes = new NodeTable(NodeTable.allocate(4096));
  const fs = new StoreFileSystem(source, nodes, { remote, storeDir: '/' });
  return {
    handler: createHandler(fs, { listRoot: true, showXattr: true, notifies: true }),
    nodes,
    path: info.storePath.toString(),
  };
}

const AT = 16;
const GUARD = 4096;
const out = Buffer.alloc(AT + MAX_READ + GUARD);

/** Runs a request: fixed arguments, and what follows them. */
function ask(
  handler: Handler,
  opcode: number,
  nodeId: number,
  args: Buffer,
  payload = Buffer.alloc(0),
): number {
  const bytes = Buffer.concat([args, payload]);
  return handler(
    {
      opcode,
      nodeId,
      resumed: false,
      args: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
      argsAt: 0,
      payload: bytes,
      payloadAt: argsLength(opcode),
      payloadEnd: bytes.length,
    },
    out,
    AT,
  );
}

const named = (name: string) => Buffer.from(`${name}\0`);

function lookUp(handler: Handler, parent: number, name: string): Buffer {
  expect(ask(handler, OP.LOOKUP, parent, Buffer.alloc(0), named(name))).toBe(ENTRY_LENGTH);
  return Buffer.from(out.subarray(AT, AT + ENTRY_LENGTH));
}

function idOf(handler: Handler, path: string, ...names: string[]): number {
  return [path, ...names].reduce(
    (parent, name) => Number(lookUp(handler, parent, name).readBigUInt64LE(0)),
    ROOT_ID,
  );
}

/** Arguments of READ and READDIR: handle, offset, size, and flags that are not looked at. */
function readArgs(offset: bigint, size: number): Buffer {
  const args = Buffer.alloc(40);
  args.writeBigUInt64LE(offset, 8);
  args.writeUInt32LE(size, 16);
  return args;
}

function reply(length: number): Buffer {
  return Buffer.from(out.subarray(AT, AT + length));
}

/** A number as it lies in a reply, in hexadecimal. */
const u64 = (value: number | bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.toString('hex');
};
const u32 = (value: number) => u64(value).slice(0, 8);

/** `fuse_attr` as the kernel's header has it. */
function attr(inode: bigint, size: number, blocks: number, mode: number): string {
  const times = u64(1).repeat(3) + u32(0).repeat(3);
  // Size and blocks, times, mode, links, owner, group, device, block size, flags.
  return (
    u64(inode) +
    u64(size) +
    u64(blocks) +
    times +
    u32(mode) +
    u32(1) +
    u32(0) +
    u32(0) +
    u32(0) +
    u32(4096) +
    u32(0)
  );
}
const FOREVER = u64(0x7fff_ffff);

describe('replies, byte for byte', () => {
  test('LOOKUP of a file', () => {
    const { handler, nodes, path } = makeHandler();
    const root = idOf(handler, path);
    const entry = lookUp(handler, root, 'file');
    const id = entry.readBigUInt64LE(0);
    const generation = nodes.generation(Number(id));
    const inode = entry.readBigUInt64LE(40);
    // Id, generation, how long the name and the attributes are known, their nanoseconds, attributes.
    expect(entry.toString('hex')).toBe(
      u64(id) + u64(generation) + FOREVER + FOREVER + u64(0) + attr(inode, CONTENTS.length, 1, 0o100444),
    );
    const run = lookUp(handler, root, 'run');
    expect(run.readBigUInt64LE(0)).not.toBe(id);
    expect(run.readUInt32LE(40 + 60)).toBe(0o100555);
    // The same bytes, in another place.
    expect(run.readBigUInt64LE(40)).not.toBe(inode);
    for (const number of [inode, run.readBigUInt64LE(40)]) expect(number >> 56n).toBe(0n);
  });

  test('LOOKUP of what is not there is an entry of node 0, known for ever', () => {
    const { handler, path } = makeHandler();
    const expected = u64(0) + u64(0) + FOREVER + u64(0).repeat(13);
    expect(lookUp(handler, idOf(handler, path), 'absent').toString('hex')).toBe(expected);
    expect(lookUp(handler, ROOT_ID, 'no store path').toString('hex')).toBe(expected);
  });

  test('LOOKUP of a store path that may come later is no entry', () => {
    const name = named(`${'0'.repeat(32)}-x`);
    expect(ask(makeHandler(true).handler, OP.LOOKUP, ROOT_ID, Buffer.alloc(0), name)).toBe(MISSING);
    expect(ask(makeHandler(false).handler, OP.LOOKUP, ROOT_ID, Buffer.alloc(0), name)).toBe(-ERRNO.ENOENT);
  });

  test('GETATTR', () => {
    const { handler, path } = makeHandler();
    expect(ask(handler, OP.GETATTR, ROOT_ID, Buffer.alloc(16))).toBe(104);
    expect(reply(104).toString('hex')).toBe(FOREVER + u64(0) + attr(1n, 0, 0, 0o040555));
    const link = idOf(handler, path, 'link');
    expect(ask(handler, OP.GETATTR, link, Buffer.alloc(16))).toBe(104);
    const inode = reply(104).readBigUInt64LE(16);
    expect(reply(104).toString('hex')).toBe(FOREVER + u64(0) + attr(inode, TARGET.length, 0, 0o120777));
  });

  test('STATX', () => {
    const { handler, path } = makeHandler();
    const file = idOf(handler, path, 'run');
    ask(handler, OP.GETATTR, file, Buffer.alloc(16));
    const inode = reply(104).readBigUInt64LE(16);
    expect(ask(handler, OP.STATX, file, Buffer.alloc(24))).toBe(288);
    const time = u64(1) + u64(0);
    expect(reply(288).toString('hex')).toBe(
      // For how long; mask, block size, attributes, links, owner, group, mode.
      FOREVER +
        u64(0).repeat(3) +
        u32(0xfff) +
        u32(4096) +
        u64(0) +
        u32(1) +
        u64(0) +
        u32(0o100555) +
        // Inode, size, blocks, mask of attributes; access, birth, change, modification; devices and nothing.
        u64(inode) +
        u64(CONTENTS.length) +
        u64(1) +
        u64(0) +
        time.repeat(4) +
        u64(0).repeat(16),
    );
  });

  test('READDIR', () => {
    const { handler, path } = makeHandler();
    const root = idOf(handler, path);
    const inodes = new Map(
      ['empty', 'far', 'far-dir', 'file', 'link', 'run'].map((name) => [
        name,
        lookUp(handler, root, name).readBigUInt64LE(40),
      ]),
    );
    ask(handler, OP.GETATTR, root, Buffer.alloc(16));
    const own = reply(104).readBigUInt64LE(16);
    const dirent = (inode: bigint, offset: number, type: number, name: string) =>
      u64(inode) +
      u64(offset) +
      u32(name.length) +
      u32(type) +
      Buffer.from(name.padEnd(Math.ceil(name.length / 8) * 8, '\0')).toString('hex');
    const expected = [
      dirent(own, 1, 4, '.'),
      dirent(1n, 2, 4, '..'),
      dirent(inodes.get('empty')!, 3, 4, 'empty'),
      dirent(inodes.get('far')!, 4, 8, 'far'),
      dirent(inodes.get('far-dir')!, 5, 4, 'far-dir'),
      dirent(inodes.get('file')!, 6, 8, 'file'),
      dirent(inodes.get('link')!, 7, 10, 'link'),
      dirent(inodes.get('run')!, 8, 8, 'run'),
    ];
    const length = ask(handler, OP.READDIR, root, readArgs(0n, 4096));
    expect(reply(length).toString('hex')).toBe(expected.join(''));
    // From the middle, and no more than fits.
    expect(ask(handler, OP.READDIR, root, readArgs(4n, 95))).toBe(64);
    expect(reply(64).toString('hex')).toBe(expected.slice(4, 6).join(''));
    expect(ask(handler, OP.READDIR, root, readArgs(8n, 4096))).toBe(0);
    expect(ask(handler, OP.READDIR, root, readArgs(0n, 31))).toBe(-ERRNO.EINVAL);
  });

  test('READDIRPLUS has the entries of LOOKUP, and counts as such', () => {
    const { handler, nodes, path } = makeHandler();
    const root = idOf(handler, path);
    const before = nodes.size;
    const length = ask(handler, OP.READDIRPLUS, root, readArgs(2n, 4096));
    expect(length).toBe(6 * (ENTRY_LENGTH + 32));
    const listing = reply(length);
    expect(nodes.size).toBe(before + 6);
    for (const [i, name] of ['empty', 'far', 'far-dir', 'file', 'link', 'run'].entries()) {
      const at = i * (ENTRY_LENGTH + 32);
      const entry = lookUp(handler, root, name);
      expect(listing.subarray(at, at + ENTRY_LENGTH).equals(entry)).toBe(true);
      ask(handler, OP.FORGET, Number(entry.readBigUInt64LE(0)), Buffer.from(u64(2), 'hex'));
    }
    expect(nodes.size).toBe(before);
    // The dots have no entry.
    expect(ask(handler, OP.READDIRPLUS, root, readArgs(0n, 330))).toBe(2 * (ENTRY_LENGTH + 32));
    expect(reply(ENTRY_LENGTH).every((byte) => byte === 0)).toBe(true);
  });

  test('READ, READLINK and STATFS', () => {
    const { handler, path } = makeHandler();
    const file = idOf(handler, path, 'file');
    expect(ask(handler, OP.READ, file, readArgs(4n, 8))).toBe(8);
    expect(reply(8).toString()).toBe('contents');
    expect(ask(handler, OP.READ, file, readArgs(20n, 4096))).toBe(2);
    expect(ask(handler, OP.READ, file, readArgs(22n, 4096))).toBe(0);
    expect(ask(handler, OP.READ, idOf(handler, path, 'far'), readArgs(0n, 10))).toBe(MISSING);
    expect(ask(handler, OP.READLINK, idOf(handler, path, 'link'), Buffer.alloc(0))).toBe(4);
    expect(reply(4).toString()).toBe(TARGET);
    expect(ask(handler, OP.STATFS, ROOT_ID, Buffer.alloc(0))).toBe(80);
    expect(reply(80).readUInt32LE(44)).toBe(255);
  });

  test('BATCH_FORGET gives back many', () => {
    const { handler, nodes, path } = makeHandler();
    const before = nodes.size;
    const ids = [idOf(handler, path), idOf(handler, path, 'file'), idOf(handler, path, 'link')];
    // The store path was looked up three times.
    const batch = ids.map((id, i) => u64(id) + u64(i === 0 ? 3 : 1)).join('');
    const args = Buffer.from(u32(ids.length) + u32(0), 'hex');
    expect(ask(handler, OP.BATCH_FORGET, 0, args, Buffer.from(batch, 'hex'))).toBe(NO_REPLY);
    expect(nodes.size).toBe(before);
  });
});

/** How much of a reply's body an operation may write, for the room that it is given. */
function roomOf(opcode: number, args: Buffer): number {
  switch (opcode) {
    case OP.READ:
    case OP.READDIR:
    case OP.READDIRPLUS:
      return Math.min(args.readUInt32LE(16), MAX_READ);
    case OP.GETXATTR:
    case OP.LISTXATTR:
      // With no room, the length is asked for.
      return args.readUInt32LE(0) || 8;
    default:
      return 4095;
  }
}

const PALETTE = ['file', 'run', 'link', 'empty', 'far', 'far-dir', 'absent', '', '.', '..', 'x'.repeat(1024)];
const bytes = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((list) => Buffer.from(list));
const requests = fc.record({
  opcode: fc.oneof(fc.constantFrom(...Object.values(OP)), fc.nat(70)),
  // Mostly a node that there is.
  node: fc.oneof(fc.nat(12), fc.constantFrom(0, ROOT_ID, 2 ** 31, 2 ** 32 - 1), fc.nat()),
  args: fc.oneof(
    bytes(40),
    fc
      .tuple(
        fc.oneof(fc.nat(10), fc.bigInt(0n, 2n ** 64n - 1n)),
        fc.oneof(fc.nat(700), fc.constantFrom(4096, 2 ** 32 - 1)),
      )
      .map(([offset, size]) => {
        const args = readArgs(BigInt(offset), size);
        // Where GETXATTR has its size.
        args.writeUInt32LE(size, 0);
        return args;
      }),
  ),
  payload: fc.oneof(
    fc.constantFrom(...PALETTE).map(named),
    fc.constantFrom('user.tvix.castore.blob.digest', 'user.snix.castore.directory.digest').map(named),
    fc.uint8Array({ maxLength: 300 }).map((list) => Buffer.from(list)),
  ),
});

// What is missing from a store that is not far is a line in the log.
beforeEach(() => void vi.spyOn(log, 'error').mockImplementation(() => {}));
afterEach(() => vi.restoreAllMocks());

test.each([true, false])('no request makes it throw, or write where it may not (far store: %s)', (remote) => {
  forAll(
    fc.array(requests, { minLength: 1, maxLength: 40 }),
    (list) => {
      const { handler, path } = makeHandler(remote);
      for (const name of ['file', 'link', 'empty', 'far', 'far-dir']) idOf(handler, path, name);
      for (const { opcode, node, args, payload } of list) {
        const room = roomOf(opcode, args);
        const isNamed = opcode === OP.LOOKUP;
        const fixed = isNamed
          ? Buffer.alloc(0)
          : opcode === OP.GETXATTR || opcode === OP.BATCH_FORGET
            ? args.subarray(0, 8)
            : args;
        const end = AT + Math.min(room, MAX_READ);
        out.fill(0xa5, 0, AT).fill(0xa5, end, end + GUARD);
        const result = ask(handler, opcode, node, fixed, payload);
        if (result !== MISSING && result !== NO_REPLY) {
          expect(result).toBeLessThanOrEqual(room);
          expect(result).toBeGreaterThan(-4096);
        }
        const untouched = Buffer.concat([out.subarray(0, AT), out.subarray(end, end + GUARD)]);
        expect(untouched.every((byte) => byte === 0xa5)).toBe(true);
      }
    },
    500,
  );
});
