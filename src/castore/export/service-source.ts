import { collect } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { BlobService } from '../blob/service.ts';
import { type Digest, EMPTY_DIGEST } from '../digest.ts';
import type { Directory } from '../directory.ts';
import type { FileNode, Node } from '../node.ts';
import { TreeDirectories, type TreeDirectoryService } from '../tree-directories.ts';
import type { TreeSource } from './source.ts';

export interface CastoreServices {
  readonly blobs: Pick<BlobService, 'read'>;
  readonly directories: TreeDirectoryService;
}

/** Files up to this size are fetched before it is their turn. */
const SHORT = 1 << 20;
/** So many files at most, and bytes, are fetched ahead. */
const MAX_AHEAD = 64;
const MAX_AHEAD_BYTES = 32 << 20;

interface Ahead {
  readonly file: FileNode;
  /** Undefined for a long file, which is read when it is its turn. */
  readonly bytes: Promise<Uint8Array> | undefined;
}

/** Reads from any services. Many files are on their way at once, and are handed out in the order of the tree. */
export class ServiceTreeSource implements TreeSource {
  readonly #services: CastoreServices;
  readonly #directories: TreeDirectories | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #files: AsyncGenerator<FileNode>;
  readonly #ahead: Ahead[] = [];
  #aheadBytes = 0;
  #done = false;

  private constructor(
    services: CastoreServices,
    root: Node,
    directories: TreeDirectories | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.#services = services;
    this.#directories = directories;
    this.#signal = signal;
    this.#files = this.#filesOf(root);
  }

  /** A source of one tree, to be read once. When the signal fires, what is on its way is given up. */
  static async open(services: CastoreServices, root: Node, signal?: AbortSignal): Promise<ServiceTreeSource> {
    const directories =
      root.kind === 'directory'
        ? await TreeDirectories.open(services.directories, root.digest, signal)
        : undefined;
    return new ServiceTreeSource(services, root, directories, signal);
  }

  directory(digest: Digest): Directory | Promise<Directory> {
    return this.#directories!.get(digest, this.#signal);
  }

  async *#filesOf(node: Node): AsyncGenerator<FileNode> {
    if (node.kind === 'file') yield node;
    if (node.kind !== 'directory') return;
    const directory = await this.directory(node.digest);
    for (const [, child] of directory.entries()) yield* this.#filesOf(child);
  }

  async contents(file: FileNode): Promise<AsyncIterable<Uint8Array>> {
    await this.#fetchAhead();
    const next = this.#ahead.shift();
    if (!next?.file.digest.equals(file.digest))
      throw new Error('files are not read in the order of the tree');
    if (next.bytes) {
      const bytes = await next.bytes;
      this.#aheadBytes -= Number(next.file.size);
      return once(bytes);
    }
    return this.#read(file);
  }

  async #fetchAhead(): Promise<void> {
    while (!this.#done && this.#ahead.length < MAX_AHEAD && this.#aheadBytes < MAX_AHEAD_BYTES) {
      const next = await this.#files.next();
      if (next.done) {
        this.#done = true;
        return;
      }
      const file = next.value;
      const bytes = file.size <= SHORT ? this.#readShort(file) : undefined;
      // A failure is told when it is the file's turn.
      bytes?.catch(() => {});
      if (bytes) this.#aheadBytes += Number(file.size);
      this.#ahead.push({ file, bytes });
    }
  }

  async #readShort(file: FileNode): Promise<Uint8Array> {
    if (file.size === 0n && file.digest.equals(EMPTY_DIGEST)) return new Uint8Array();
    const bytes = await collect(await this.#read(file), SHORT);
    if (!bytes) throw damaged(`blob ${file.digest} is longer than ${file.size} bytes`);
    return bytes;
  }

  async #read({ digest, size }: FileNode): Promise<AsyncIterable<Uint8Array>> {
    const contents = await this.#services.blobs.read(digest, { size: Number(size), signal: this.#signal });
    if (!contents) throw damaged(`blob ${digest} is missing`);
    return contents;
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
