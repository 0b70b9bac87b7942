import { eachOf } from '../../util/async/each-of.ts';
import { Limiter } from '../../util/async/limiter.ts';
import { LinePlaces } from '../../util/async/line-places.ts';
import { collect } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { BlobContent, BlobService, Chunk } from '../blob/service.ts';
import { anotherSize, SINGLE_CHUNK_LIMIT } from '../blob/service.ts';
import type { DirectoryService } from '../directory/service.ts';
import type { FileNode, Node } from '../node.ts';
import { TreeDirectories } from '../tree-directories.ts';
import { filesOf, leavesFirst } from '../walk.ts';
import { begunContents } from './begun-blob.ts';
import type { CopyOptions, TreeCopier } from './copier.ts';
import { tell } from './copier.ts';

/** Files of one tree that are asked for and sent at once: enough for some calls with many of them. */
const AT_ONCE = 256;
/** Of them, those that are not short. */
const LONG_AT_ONCE = 32;
/** Bytes that are under way of a long file. */
const STREAM_BYTES = 512 << 10;
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
  readonly #places = new LinePlaces();
  readonly #long = new Limiter(LONG_AT_ONCE);
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
    await eachOf(files(), AT_ONCE, signal, (file, abort) =>
      isShort(file) ? this.#file(file, abort) : this.#long.run(() => this.#file(file, abort), abort),
    );
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
    const isThere = await this.#isThere(file, signal);
    if (!isThere) await this.#send(file, isThere === false, signal);
    if (this.#seen.size >= MAX_SEEN) this.#seen.clear();
    this.#seen.add(hex);
    tell(this.#options, 0);
  }

  /** A short file is not worth a far question that is always answered in the same way: `undefined` when it is not asked. */
  async #isThere(file: FileNode, signal: AbortSignal | undefined): Promise<boolean | undefined> {
    const unlikely = this.#absent++ >= ASK && this.#absent % ASK_EACH !== 0;
    if (unlikely && isShort(file) && !this.#to.blobs.readAtOnce) return undefined;
    const isThere = await this.#to.blobs.has(file.digest, { size: Number(file.size), signal });
    if (isThere) this.#absent = 0;
    return isThere;
  }

  async #send(file: FileNode, isMissing: boolean, signal: AbortSignal | undefined): Promise<void> {
    const onArrival = (bytes: number) => tell(this.#options, bytes);
    const { blobs } = this.#from;
    const begun = await begunContents(blobs, this.#to.blobs, file, this.#places, onArrival, signal);
    let stored = begun && (await this.#put(file, begun, isMissing, signal));
    // What chunks are said to make a blob may be wrong, and the blob right.
    if (!stored?.digest.equals(file.digest)) stored = await this.#sendWhole(file, isMissing, signal);
    if (stored?.size !== Number(file.size)) throw anotherSize(file);
    if (!stored.digest.equals(file.digest)) throw damaged(`blob ${file.digest} is damaged`);
  }

  /** From afar, no more at once than the line carries. */
  async #sendWhole(
    file: FileNode,
    isMissing: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Chunk | undefined> {
    const send = async (arrived: (bytes: number) => void) => {
      const contents = await this.#read(file, signal);
      if (!isShort(file)) return this.#put(file, this.#counted(contents, arrived), isMissing, signal);
      const bytes = await collect(contents, Number(file.size));
      const stored = bytes && (await this.#put(file, bytes, isMissing, signal));
      tell(this.#options, Number(file.size));
      return stored;
    };
    if (this.#from.blobs.readAtOnce) return send(() => {});
    return this.#places.run(Math.min(Number(file.size), STREAM_BYTES), send, signal);
  }

  async #read(
    { digest, size }: FileNode,
    signal: AbortSignal | undefined,
  ): Promise<AsyncIterable<Uint8Array>> {
    const contents = await this.#from.blobs.read(digest, { size: Number(size), signal });
    if (!contents) throw damaged(`blob ${digest} is missing`);
    return contents;
  }

  #put(
    file: FileNode,
    content: BlobContent,
    isMissing: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Chunk> {
    const again = isShort(file) ? undefined : async () => this.#counted(await this.#read(file, signal));
    return this.#to.blobs.put(content, { size: Number(file.size), isMissing, again, signal });
  }

  async *#counted(
    contents: AsyncIterable<Uint8Array>,
    arrived: (bytes: number) => void = () => {},
  ): AsyncGenerator<Uint8Array> {
    for await (const part of contents) {
      arrived(part.length);
      yield part;
      tell(this.#options, part.length);
    }
  }
}

function isShort(file: FileNode): boolean {
  return file.size <= SINGLE_CHUNK_LIMIT;
}
