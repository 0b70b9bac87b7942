import { closeSync, openSync } from 'node:fs';
import { MessageChannel } from 'node:worker_threads';
import { Digest } from '../castore/digest.ts';
import { Directory } from '../castore/directory.ts';
import type { Name, Node, SymlinkTarget } from '../castore/node.ts';
import type { FileSystem } from '../fs/file-system.ts';
import { ROOT_ID } from '../fs/file-system.ts';
import { NodeTable } from '../fs/node-table.ts';
import type { Source } from '../fs/source.ts';
import { StoreFileSystem } from '../fs/store-file-system.ts';
import { COUNTER } from '../fuse/counters.ts';
import { DeviceSession } from '../fuse/device-session.ts';
import { CONTROL } from '../fuse/dispatcher.ts';
import { createHandler } from '../fuse/handler.ts';
import { OP } from '../fuse/opcodes.ts';
import * as fuse from '../fuse/protocol.ts';
import { StorePath } from '../nix/store-path.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';

const DIRECTORIES = 48;
const ENTRIES = 24;
const ROUNDS = 12;
const MADE_UP = StorePath.ofNar('warm-up', new Uint8Array(32));
const NODES = 4096;
/** A file that is read in order, in bytes, by chunks and reads of this length. */
const CHUNK = 200_000;
const LARGE = 80 * CHUNK;
const READ = 128 << 10;
const READS = 40;

/**
 * Serves a small made-up tree for a few dozen milliseconds. A fresh thread interprets its code: the first
 * thousands of requests, a program's start or the first listing of a tree, would cost five times as much.
 * `local` is asked for things it does not have, so that its code is compiled as well.
 */
export function warmUp(local: Source, storeDir: string): void {
  const tree = madeUpTree();
  const source: Source = {
    pathInfo: () => tree.info,
    pathInfosFrom: () => [tree.info],
    directory: (digest) =>
      local.directory(digest) ?? tree.directories.get(Buffer.from(digest).toString('latin1')),
    manifest: (digest) => (tree.large.equals(Digest.of(digest)) ? tree.chunks : undefined),
    readChunk: (digest, offset, length, out, at) => {
      local.readChunk(digest, offset, length, out, at);
      out.fill(0, at, at + length);
      return length;
    },
    chunkFile: (digest) => local.chunkFile(digest) ?? { fd: zeros, size: CHUNK },
    expect: (digest) => local.expect(digest),
    refresh: () => local.refresh(),
  };
  const nowhere = openSync('/dev/null', 'r+');
  const zeros = openSync('/dev/zero', 'r');
  for (let round = 0; round < ROUNDS; round++) {
    const nodes = new NodeTable(NodeTable.allocate(NODES));
    const fs = new StoreFileSystem(source, nodes, { remote: false, storeDir });
    walk(fs, createHandler(fs, { listRoot: true, showXattr: false, notifies: true }), nowhere);
  }
  closeSync(nowhere);
  closeSync(zeros);
}

type Handler = ReturnType<typeof createHandler>;

/** Does what `ls -lR` and a reader of small files make the kernel ask. The replies go nowhere. */
function walk(fs: FileSystem, handle: Handler, nowhere: number): void {
  const bytes = Buffer.alloc(512);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let id = 0;
  const session = new DeviceSession({
    fd: nowhere,
    wakeFd: nowhere,
    control: new Int32Array(CONTROL.LENGTH),
    counters: new Float64Array(COUNTER.LENGTH),
    port: new MessageChannel().port1,
    fs,
    handler: (request, out, at) => {
      const result = handle(request, out, at);
      id = out.readUInt32LE(at);
      return result;
    },
    onPayload: () => {},
  });
  const ask = (opcode: number, nodeId: number, length = 40) => {
    bytes.writeUInt32LE(opcode, 4);
    bytes.writeUInt32LE(nodeId, 16);
    session.serve(bytes.subarray(0, fuse.IN_HEADER_LENGTH + length));
  };
  const name = (text: string): number => bytes.fill(0).write(text, fuse.IN_HEADER_LENGTH, 'latin1') + 1;
  const range = (offset: number, size: number) => {
    bytes.fill(0);
    view.setUint32(fuse.IN_HEADER_LENGTH + 8, offset, true);
    view.setUint32(fuse.IN_HEADER_LENGTH + 16, size, true);
  };
  ask(OP.LOOKUP, ROOT_ID, name(MADE_UP.toString()));
  const top = id;
  const list = (id: number) => {
    range(0, 32 * 1024);
    ask(OP.READDIRPLUS, id);
    range(ENTRIES + 2, 32 * 1024);
    ask(OP.READDIRPLUS, id);
    range(0, 32 * 1024);
    ask(OP.READDIR, id);
  };
  list(top);
  ask(OP.LOOKUP, top, name('large'));
  for (let i = 0, large = id; i < READS; i++) {
    range(i * READ, READ);
    ask(OP.READ, large);
  }
  session.close();
  for (let d = 0; d < DIRECTORIES; d++) {
    ask(OP.LOOKUP, top, name(`d${d}`));
    const directory = id;
    list(directory);
    ask(OP.GETATTR, directory);
    ask(OP.LOOKUP, directory, name('absent'));
    for (const [file, opcode] of [
      ['f1', OP.READ],
      ['f2', OP.READ],
      ['l', OP.READLINK],
    ] as const) {
      ask(OP.LOOKUP, directory, name(file));
      const node = id;
      range(0, 4096);
      ask(opcode, node);
      bytes.fill(0);
      view.setUint32(fuse.IN_HEADER_LENGTH, 2, true);
      ask(OP.FORGET, node);
    }
  }
}

function madeUpTree() {
  const directories = new Map<string, Uint8Array>();
  const keep = (directory: Directory): Node => {
    directories.set(Buffer.from(directory.digest.bytes).toString('latin1'), directory.bytes);
    return { kind: 'directory', digest: directory.digest, size: directory.size };
  };
  const named = (text: string) => Buffer.from(text) as unknown as Name;
  const top: [Name, Node][] = [];
  for (let d = 0; d < DIRECTORIES; d++) {
    const entries: [Name, Node][] = [
      [named('l'), { kind: 'symlink', target: named('target') as unknown as SymlinkTarget }],
    ];
    for (let f = 0; f < ENTRIES - 1; f++) {
      const digest = Digest.hash(Buffer.from(`${d}/${f}`));
      entries.push([named(`f${f}`), { kind: 'file', digest, size: 4096n, executable: f % 2 === 0 }]);
    }
    top.push([named(`d${d}`), keep(Directory.of(entries))]);
  }
  const large = Digest.hash(Buffer.from('large'));
  const chunks = Array.from({ length: LARGE / CHUNK }, (_, i) => ({
    digest: Digest.hash(Buffer.from(`chunk ${i}`)),
    size: CHUNK,
  }));
  top.push([named('large'), { kind: 'file', digest: large, size: BigInt(LARGE), executable: false }]);
  const info: PathInfo = {
    storePath: MADE_UP,
    node: keep(Directory.of(top)),
    references: [],
    narSize: 0n,
    narSha256: new Uint8Array(32),
    signatures: [],
  };
  return { info, directories, large, chunks };
}
