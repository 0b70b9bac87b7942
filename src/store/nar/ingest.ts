import type { BlobService } from '../../castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../../castore/blob/service.ts';
import type { DirectoryPutter } from '../../castore/directory/service.ts';
import { Directory } from '../../castore/directory.ts';
import type { ImportTarget } from '../../castore/import/file-system.ts';
import type { Name, Node, SymlinkTarget } from '../../castore/node.ts';
import { ParallelSha256 } from '../../nix/nar/parallel-sha256.ts';
import type { NarVisitor } from '../../nix/nar/reader.ts';
import { NarReader } from '../../nix/nar/reader.ts';
import { InFlight } from '../../util/async/in-flight.ts';
import { invalid } from '../../util/errors.ts';
import { Channel } from './channel.ts';

/** Small files on their way into the store at once. */
const MAX_IN_FLIGHT = 64;
/** Entries of one directory, which is held in memory as a whole. */
const MAX_ENTRIES = 1 << 20;

export interface IngestOptions {
  /** Called with the bytes of the NAR read so far. */
  readonly onProgress?: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A NAR that has been read into the store: its root, length in bytes and hash. */
export interface IngestedNar {
  readonly node: Node;
  readonly narSize: bigint;
  readonly narSha256: Uint8Array;
}

/**
 * Reads a NAR into the store: contents and hash in one pass, in constant memory. It is visible and durable
 * once both services have been flushed; the caller compares size and hash before it names the root to
 * anybody. A part of the stream must stay unchanged only until the next one is asked for. Throws
 * INVALID_ARGUMENT, with the position, for anything that is not a NAR in its one canonical form.
 */
export async function ingestNar(
  nar: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  target: ImportTarget,
  { onProgress, signal }: IngestOptions = {},
): Promise<IngestedNar> {
  const sha256 = new ParallelSha256();
  const builder = new TreeBuilder(target, signal);
  const reader = new NarReader(builder);
  let size = 0;
  try {
    for await (const part of nar) {
      signal?.throwIfAborted();
      reader.push(part);
      sha256.update(part);
      size += part.length;
      onProgress?.(size);
      await builder.ready();
    }
    reader.end();
    return { node: await builder.finish(), narSize: BigInt(size), narSha256: await sha256.digest() };
  } catch (error) {
    await builder.abandon(error);
    throw error;
  } finally {
    sha256.close();
  }
}

/** A directory whose end has not been read. */
interface OpenDirectory {
  readonly names: Name[];
  readonly nodes: Promise<Node>[];
}

/** Builds the tree that a NAR reader tells of. */
class TreeBuilder implements NarVisitor {
  readonly #blobs: Pick<BlobService, 'put'>;
  readonly #putter: DirectoryPutter;
  readonly #signal: AbortSignal | undefined;
  readonly #open: OpenDirectory[] = [];
  readonly #inFlight = new InFlight(MAX_IN_FLIGHT);
  #root: Promise<Node> | undefined;
  /** The file that is being read. */
  #size = 0;
  #executable = false;
  /** Its contents: gathered here when it is small, handed through a channel when it is large. */
  #small: Buffer | undefined;
  #filled = 0;
  #large: Channel | undefined;
  /** Files of which a part may still be in the memory of the NAR. */
  #unused: Channel[] = [];

  constructor(target: ImportTarget, signal: AbortSignal | undefined) {
    this.#blobs = target.blobs;
    this.#putter = target.directories.putMany();
    this.#signal = signal;
  }

  beginDirectory(): void {
    this.#open.push({ names: [], nodes: [] });
  }

  beginEntry(name: Uint8Array): void {
    const { names } = this.#open.at(-1)!;
    if (names.length === MAX_ENTRIES) throw invalid(`a directory has more than ${MAX_ENTRIES} entries`);
    names.push(name as Name);
  }

  endEntry(): void {}

  endDirectory(): void {
    this.#add(this.#putDirectory(this.#open.pop()!));
  }

  async #putDirectory({ names, nodes }: OpenDirectory): Promise<Node> {
    const children = await Promise.all(nodes);
    const directory = Directory.of(names.map((name, i) => [name, children[i]!] as const));
    await this.#putter.add(directory);
    return { kind: 'directory', digest: directory.digest, size: directory.size };
  }

  symlink(target: Uint8Array): void {
    this.#add(Promise.resolve({ kind: 'symlink', target: target as SymlinkTarget }));
  }

  beginFile(size: number, executable: boolean): void {
    this.#size = size;
    this.#executable = executable;
    this.#filled = 0;
    if (this.#size <= SINGLE_CHUNK_LIMIT) {
      this.#small = Buffer.allocUnsafe(this.#size);
      return;
    }
    const contents = new Channel();
    this.#large = contents;
    this.#unused.push(contents);
    const stored = this.#blobs.put(contents, { signal: this.#signal, size: this.#size });
    this.#addFile(stored.finally(() => contents.leave()));
  }

  contents(bytes: Uint8Array): void {
    if (this.#large) {
      this.#large.push(bytes);
      return;
    }
    this.#small!.set(bytes, this.#filled);
    this.#filled += bytes.length;
  }

  endFile(): void {
    if (this.#large) this.#large.end();
    else this.#addFile(this.#blobs.put(this.#small!, { signal: this.#signal }));
    this.#large = undefined;
    this.#small = undefined;
  }

  #addFile(stored: ReturnType<BlobService['put']>): void {
    const file = { kind: 'file', size: BigInt(this.#size), executable: this.#executable } as const;
    this.#add(stored.then(({ digest }) => ({ ...file, digest })));
  }

  /** Lets the reading go on while something is being stored. */
  #add(node: Promise<Node>): void {
    const parent = this.#open.at(-1);
    if (parent) parent.nodes.push(node);
    else this.#root = node;
    this.#inFlight.add(node);
  }

  /** Resolves when the next part of the NAR may come. Throws what storing the last ones failed with. */
  async ready(): Promise<void> {
    for (const contents of this.#unused) await contents.drained();
    this.#unused = this.#large ? [this.#large] : [];
    await this.#inFlight.room();
    this.#inFlight.check();
  }

  async finish(): Promise<Node> {
    const root = await this.#root!;
    if (root.kind === 'directory') await this.#putter.close();
    return root;
  }

  /** Ends what is under way. */
  async abandon(error: unknown): Promise<void> {
    this.#large?.fail(error);
    await this.#inFlight.ended();
  }
}
