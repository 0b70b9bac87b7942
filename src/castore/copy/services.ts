import { eachOf } from '../../util/async/each-of.ts';
import { collect } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { BlobContent, BlobService } from '../blob/service.ts';
import { anotherSize, SINGLE_CHUNK_LIMIT } from '../blob/service.ts';
import type { DirectoryService } from '../directory/service.ts';
import type { FileNode, Node } from '../node.ts';
import { TreeDirectories } from '../tree-directories.ts';
import { filesOf, leavesFirst } from '../walk.ts';
import type { CopyOptions, TreeCopier } from './copier.ts';
import { tell } from './copier.ts';

/** Files of one tree that are asked for and sent at once. */
const AT_ONCE = 32;
/** After so many short files in a row that were not there, the next are sent without asking. */
const ASK = 32;
/** But one of so many is asked for, to learn when they begin to be there. */
const ASK_EACH = 16;
/** Digests of files that need not be asked for again; beyond it they are forgotten. */
const MAX_SEEN = 1 << 20;

interface Castore {
  readonly blobs: BlobService;
  readonly directories: DirectoryService;
}

/** Copies between any services, many files at once: contents as streams, directories as one closure. */
export class ServiceTreeCopier implements TreeCopier {
  readonly #from: Castore;
  readonly #to: Castore;
  readonly #options: CopyOptions;
  readonly #seen = new Set<string>();
  /** Files that were not there, since the last one that was. */
  #absent = 0;

  constructor(from: Castore, to: Castore, options: CopyOptions = {}) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
  }

  async copy(root: Node, signal?: AbortSignal): Promise<void> {
    if (root.kind === 'file') await this.#file(root, signal);
    if (root.kind !== 'directory') return;
    const tree = await TreeDirectories.open(this.#from.directories, root.digest, signal);
    const directories = () => leavesFirst(root.digest, (digest) => tree.get(digest, signal));
    const files = async function* () {
      for await (const directory of directories()) yield* filesOf(directory);
    };
    await eachOf(files(), AT_ONCE, signal, (file, abort) => this.#file(file, abort));
    const putter = this.#to.directories.putMany();
    for await (const directory of directories()) {
      signal?.throwIfAborted();
      await putter.add(directory);
      tell(this.#options, 0);
    }
    await putter.close();
  }

  async #file(file: FileNode, signal: AbortSignal | undefined): Promise<void> {
    const { hex } = file.digest;
    if (this.#seen.has(hex)) return;
    if (!(await this.#isThere(file, signal))) await this.#send(file, signal);
    if (this.#seen.size >= MAX_SEEN) this.#seen.clear();
    this.#seen.add(hex);
    tell(this.#options, 0);
  }

  /** A short file is not worth a question that is always answered in the same way. */
  async #isThere(file: FileNode, signal: AbortSignal | undefined): Promise<boolean> {
    const unlikely = this.#absent++ >= ASK && this.#absent % ASK_EACH !== 0;
    if (unlikely && file.size <= SINGLE_CHUNK_LIMIT) return false;
    const isThere = await this.#to.blobs.has(file.digest, { size: Number(file.size), signal });
    if (isThere) this.#absent = 0;
    return isThere;
  }

  async #send(file: FileNode, signal: AbortSignal | undefined): Promise<void> {
    const size = Number(file.size);
    const contents = await this.#from.blobs.read(file.digest, { size, signal });
    if (!contents) throw damaged(`blob ${file.digest} is missing`);
    const content: BlobContent | undefined =
      size <= SINGLE_CHUNK_LIMIT ? await collect(contents, size) : this.#counted(contents);
    const stored = content && (await this.#to.blobs.put(content, { size, signal }));
    if (stored?.size !== size) throw anotherSize(file);
    if (!stored.digest.equals(file.digest)) throw damaged(`blob ${file.digest} is damaged`);
    if (size <= SINGLE_CHUNK_LIMIT) tell(this.#options, size);
  }

  async *#counted(contents: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const part of contents) {
      yield part;
      tell(this.#options, part.length);
    }
  }
}
