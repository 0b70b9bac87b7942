import type { Stats } from 'node:fs';
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs';
import { InFlight } from '../../util/async/in-flight.ts';
import { Turns } from '../../util/async/turns.ts';
import { compareBytes, latin1, printable } from '../../util/bytes.ts';
import { StoreError, systemCode } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { MAX_TREE_DEPTH, NIX_TREE_DEPTH } from '../../util/tree-depth.ts';
import type { BlobService } from '../blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../blob/service.ts';
import type { Digest } from '../digest.ts';
import type { DirectoryPutter, DirectoryService } from '../directory/service.ts';
import { Directory } from '../directory.ts';
import type { FileNode, Name, Node } from '../node.ts';
import { parseName, parseSymlinkTarget } from '../node.ts';
import type { TreeObserver } from './observer.ts';

/** Progress of an import. */
export interface ImportProgress {
  entries: number;
  /** Bytes of file contents read. */
  bytes: number;
}

export interface ImportOptions {
  readonly observer?: TreeObserver;
  /** Kept up to date while the import runs; `onProgress` is called at every entry and part. */
  readonly progress?: ImportProgress;
  readonly onProgress?: () => void;
  readonly signal?: AbortSignal;
  /** Digests of files beyond 128 KiB, by path: those that the store has are not read again. */
  readonly known?: ReadonlyMap<string, Digest>;
  /** Told the digest of every file beyond 128 KiB. */
  readonly onLargeFile?: (path: string, digest: Digest) => void;
}

/** Where an import goes. */
export interface ImportTarget {
  readonly blobs: Pick<BlobService, 'put' | 'has'>;
  readonly directories: Pick<DirectoryService, 'putMany'>;
}

/** Files and directories on their way into the store at once, in bytes: enough for some calls with many of them. */
const MAX_IN_FLIGHT = 16 << 20;
/** What one counts besides its contents. */
const WEIGHT = 4096;
const READ_LENGTH = 1 << 20;
const SLASH = Buffer.from('/');

/**
 * Reads a tree of the file system, without following links, into the store. Gives its root; the tree is
 * durable once both services have been flushed. Throws an error that names the path for anything that is
 * no file, directory or link, that cannot be read, or that changes while it is read.
 */
export async function importPath(
  path: Buffer,
  target: ImportTarget,
  options: ImportOptions = {},
): Promise<Node> {
  const putter = target.directories.putMany();
  const importer = new Importer(target.blobs, putter, options);
  const root = await importer.visit(path, lstatSync(path));
  const node = await root.stored;
  if (node.kind === 'directory') await putter.close();
  return node;
}

/** A node that has been read; it is on its way into the store. */
interface Visited {
  readonly stored: Promise<Node>;
}

class Importer {
  readonly #blobs: ImportTarget['blobs'];
  readonly #putter: DirectoryPutter;
  readonly #options: ImportOptions;
  readonly #inFlight = new InFlight(MAX_IN_FLIGHT);
  readonly #turns = new Turns();
  /** Directories that are being read, one in the other. */
  #depth = 0;
  #hasWarned = false;
  /** Buffers for contents, by the length of their lengths in bits. They are free again when the file is stored. */
  readonly #scratch: Buffer[][] = [];

  constructor(blobs: ImportTarget['blobs'], putter: DirectoryPutter, options: ImportOptions) {
    this.#blobs = blobs;
    this.#putter = putter;
    this.#options = options;
  }

  /** Reads the node at a path, whose kind `entry` tells. Resolves once it has been read. */
  async visit(
    path: Buffer,
    entry: Pick<Stats, 'isDirectory' | 'isFile' | 'isSymbolicLink'>,
  ): Promise<Visited> {
    this.#inFlight.check();
    this.#options.signal?.throwIfAborted();
    if (this.#options.progress) this.#options.progress.entries++;
    this.#options.onProgress?.();
    try {
      if (entry.isDirectory()) return await this.#directory(path);
      if (entry.isFile()) return await this.#file(path);
      if (entry.isSymbolicLink()) return this.#symlink(path);
    } catch (error) {
      throw naming(path, error);
    }
    throw new StoreError(
      'INVALID_ARGUMENT',
      `${printable(path)}: only files, directories and links can be imported`,
    );
  }

  async #directory(path: Buffer): Promise<Visited> {
    const { observer } = this.#options;
    const before = lstatSync(path);
    const entries = readdirSync(path, { withFileTypes: true, encoding: 'buffer' as BufferEncoding });
    // With this encoding, names are Buffers, whatever the types say.
    const children = entries.map((entry) => ({ entry, name: parseName(entry.name as unknown as Buffer) }));
    children.sort((a, b) => compareBytes(a.name, b.name));
    const visited: [Name, Visited][] = [];
    observer?.beginDirectory();
    this.#goDown(path);
    for (const { entry, name } of children) {
      observer?.beginEntry(name);
      visited.push([name, await this.visit(Buffer.concat([path, SLASH, name]), entry)]);
      observer?.endEntry();
    }
    observer?.endDirectory();
    this.#depth--;
    if (!isUnchanged(before, lstatSync(path))) throw changed(path);
    return this.#later(this.#putDirectory(visited));
  }

  #goDown(path: Buffer): void {
    this.#depth++;
    if (this.#depth > MAX_TREE_DEPTH) {
      throw new StoreError(
        'INVALID_ARGUMENT',
        `${printable(path)}: more than ${MAX_TREE_DEPTH} directories in each other, which no store path may have`,
      );
    }
    if (this.#depth < NIX_TREE_DEPTH || this.#hasWarned) return;
    this.#hasWarned = true;
    log.warn(`newer Nix refuses ${NIX_TREE_DEPTH} and more directories in each other`, {
      path: printable(path),
    });
  }

  async #putDirectory(visited: readonly [Name, Visited][]): Promise<Node> {
    const nodes: [Name, Node][] = [];
    for (const [name, child] of visited) nodes.push([name, await child.stored]);
    const directory = Directory.of(nodes);
    await this.#putter.add(directory);
    return { kind: 'directory', digest: directory.digest, size: directory.size };
  }

  #symlink(path: Buffer): Visited {
    const target = parseSymlinkTarget(readlinkSync(path, 'buffer'));
    this.#options.observer?.symlink(target);
    return { stored: Promise.resolve({ kind: 'symlink', target }) };
  }

  async #file(path: Buffer): Promise<Visited> {
    // Not following a link, nor waiting for a pipe, that took the file's place meanwhile.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    let isOpen = false;
    try {
      const before = fstatSync(fd);
      if (!before.isFile()) throw changed(path);
      const executable = (before.mode & 0o100) !== 0;
      const { observer } = this.#options;
      const isSmall = before.size <= SINGLE_CHUNK_LIMIT;
      const node = (digest: Digest): FileNode => ({
        kind: 'file',
        size: BigInt(before.size),
        executable,
        digest,
      });
      if (!isSmall && !observer) {
        isOpen = true;
        const weight = 2 * Math.min(before.size, READ_LENGTH);
        const beside = this.#later(this.#putBeside(path, fd, before).then(node), weight);
        await this.#inFlight.room();
        return beside;
      }
      observer?.beginFile(before.size, executable);
      const digest = isSmall
        ? this.#putSmall(path, fd, before.size)
        : Promise.resolve(await this.#putLarge(path, fd, before.size));
      const visited = this.#later(digest.then(node), isSmall ? before.size : 0);
      observer?.endFile();
      if (!isUnchanged(before, fstatSync(fd))) throw changed(path);
      // What is on its way gets on meanwhile.
      if (this.#turns.isDue) await this.#turns.take();
      await this.#inFlight.room();
      return visited;
    } finally {
      if (!isOpen) closeSync(fd);
    }
  }

  /** Puts a large file while others are read, of whose contents nobody hears in order. Closes it. */
  async #putBeside(path: Buffer, fd: number, before: Stats): Promise<Digest> {
    try {
      const digest = await this.#putLarge(path, fd, before.size);
      if (!isUnchanged(before, fstatSync(fd))) throw changed(path);
      return digest;
    } catch (error) {
      throw naming(path, error);
    } finally {
      closeSync(fd);
    }
  }

  #readSmall(path: Buffer, fd: number, size: number, scratch: Buffer): Uint8Array {
    // One byte more than there should be, so that one read also tells that the file has not grown.
    let length = 0;
    for (let count = -1; count !== 0 && length < size; length += count) {
      count = readSync(fd, scratch, length, size + 1 - length, length);
    }
    if (length !== size) throw changed(path);
    const contents = scratch.subarray(0, size);
    this.#seen(contents);
    return contents;
  }

  async #putSmall(path: Buffer, fd: number, size: number): Promise<Digest> {
    const { scratch, free } = this.#buffer(size + 1);
    const contents = this.#readSmall(path, fd, size, scratch);
    const { digest } = await this.#blobs.put(contents, { signal: this.#options.signal });
    free();
    return digest;
  }

  /** A buffer of so many bytes at least. */
  #buffer(length: number): { scratch: Buffer; free: () => void } {
    const bits = 32 - Math.clz32(length - 1);
    this.#scratch[bits] ??= [];
    const unused = this.#scratch[bits];
    const scratch = unused.pop() ?? Buffer.allocUnsafeSlow(1 << bits);
    return { scratch, free: () => unused.push(scratch) };
  }

  async #putLarge(path: Buffer, fd: number, size: number): Promise<Digest> {
    const { known, onLargeFile, signal } = this.#options;
    const key = latin1(path);
    const expected = known?.get(key);
    if (expected && (await this.#blobs.has(expected, { size, signal }))) return expected;
    // Who hears of the contents hears of them once.
    const { scratch, free } = this.#buffer(Math.min(size, READ_LENGTH));
    const parts = () => this.#parts(path, fd, size, scratch);
    const again = this.#options.observer ? undefined : parts;
    const { digest } = await this.#blobs.put(parts(), { signal, size, again });
    free();
    onLargeFile?.(key, digest);
    return digest;
  }

  *#parts(path: Buffer, fd: number, size: number, scratch: Buffer): Generator<Uint8Array> {
    let position = 0;
    for (;;) {
      const count = readSync(fd, scratch, 0, scratch.length, position);
      position += count;
      if (position > size || (count === 0 && position !== size)) throw changed(path);
      if (count === 0) return;
      const part = scratch.subarray(0, count);
      this.#seen(part);
      yield part;
    }
  }

  #seen(contents: Uint8Array): void {
    this.#options.observer?.contents(contents);
    if (this.#options.progress) this.#options.progress.bytes += contents.length;
    this.#options.onProgress?.();
  }

  /** Lets the import go on while something is being stored. A failure stops it at the next node. */
  #later(stored: Promise<Node>, size = 0): Visited {
    this.#inFlight.add(stored, WEIGHT + size);
    return { stored };
  }
}

function isUnchanged(before: Stats, after: Stats): boolean {
  return (
    before.ino === after.ino &&
    before.size === after.size &&
    before.mtimeMs === after.mtimeMs &&
    before.ctimeMs === after.ctimeMs
  );
}

function changed(path: Buffer): StoreError {
  return new StoreError(
    'FAILED_PRECONDITION',
    `${printable(path)}: changed while it was read; import it again`,
  );
}

/** Adds the path to an error of the file system that lacks a helpful one. */
function naming(path: Buffer, error: unknown): unknown {
  const code = systemCode(error);
  if (error instanceof StoreError) {
    const message = error.message.startsWith('invalid')
      ? `${printable(path)}: ${error.message}`
      : error.message;
    return new StoreError(error.code, message, { cause: error });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new StoreError('PERMISSION_DENIED', `${printable(path)}: cannot be read: permission denied`, {
      cause: error,
    });
  }
  if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP' || code === 'ENXIO') return changed(path);
  return new StoreError('INTERNAL', `${printable(path)}: ${(error as Error).message}`, { cause: error });
}
