import { Turns } from '../../util/async/turns.ts';
import { damaged, isDamage } from '../../util/errors.ts';
import { anotherSize, type Chunk, SINGLE_CHUNK_LIMIT } from '../blob/service.ts';
import { DigestHasher } from '../digest.ts';
import { LocalTreeSource } from '../export/source.ts';
import type { LocalStore } from '../local/store.ts';
import type { FileNode, Node } from '../node.ts';
import { filesOf, leavesFirst } from '../walk.ts';
import type { CopyOptions, TreeCopier } from './copier.ts';
import { tell } from './copier.ts';

/** After so many bytes they are committed: what has been copied by then is not copied again. */
const FLUSH_BYTES = 256 << 20;

/**
 * Copies between two local stores: chunks go as they are, with the lists of them. All are hashed on the way,
 * and so is every blob of several, since nothing else says that a list is right.
 */
export class LocalTreeCopier implements TreeCopier {
  readonly #from: LocalStore;
  readonly #to: LocalStore;
  readonly #source: LocalTreeSource;
  readonly #options: CopyOptions;
  /** Directories and files that have been copied or found there, so that nobody takes them away. */
  readonly #seen = new Set<string>();
  #unflushed = 0;
  #last: Promise<void> = Promise.resolve();

  constructor(from: LocalStore, to: LocalStore, options: CopyOptions = {}) {
    this.#from = from;
    this.#to = to;
    this.#source = new LocalTreeSource(from.reader);
    this.#options = options;
  }

  /** One tree after another: there is nothing to wait for. */
  copy(root: Node, signal?: AbortSignal): Promise<void> {
    const copied = this.#last.then(() => this.#copy(root, signal));
    // Of what failed, the next one can rely on nothing.
    this.#last = copied.catch(() => this.#seen.clear());
    return copied;
  }

  async #copy(root: Node, signal: AbortSignal | undefined): Promise<void> {
    const turns = new Turns(signal);
    signal?.throwIfAborted();
    if (root.kind === 'file') await this.#file(root, turns);
    if (root.kind !== 'directory') return;
    const { writer } = this.#to;
    for await (const directory of leavesFirst(
      root.digest,
      (digest) => this.#source.directory(digest),
      this.#seen,
    )) {
      for (const file of filesOf(directory)) {
        if (this.#seen.has(file.digest.hex)) continue;
        await this.#file(file, turns);
        this.#seen.add(file.digest.hex);
        if (turns.isDue) await turns.take();
      }
      await writer.directory(directory);
      tell(this.#options, 0);
    }
  }

  async #file(file: FileNode, turns: Turns): Promise<void> {
    const { digest, size } = file;
    const chunks = size > SINGLE_CHUNK_LIMIT ? this.#from.reader.manifest(digest.bytes) : undefined;
    if (chunks) await this.#blob(file, chunks, turns);
    else await this.#chunk({ digest, size: Number(size) });
    tell(this.#options, 0);
  }

  async #blob(file: FileNode, chunks: readonly Chunk[], turns: Turns): Promise<void> {
    if (await this.#isThere(file)) return;
    if (chunks.reduce((sum, chunk) => sum + chunk.size, 0) !== Number(file.size)) throw anotherSize(file);
    const hasher = new DigestHasher();
    for (const chunk of chunks) {
      hasher.update(await this.#copyChunk(chunk));
      if (turns.isDue) await turns.take();
    }
    if (!hasher.digest().equals(file.digest)) {
      this.#from.env.rotten.note(file.digest);
      throw damaged(`the local store's blob ${file.digest} is damaged`);
    }
    await this.#to.writer.manifest(file.digest, chunks);
  }

  /** Whether the target has a blob with all its chunks, which may be other ones than ours. */
  async #isThere({ digest }: FileNode): Promise<boolean> {
    const { writer, reader } = this.#to;
    try {
      const chunks = reader.manifest(digest.bytes);
      return chunks !== undefined && (await writer.hasBlob(digest.bytes, chunks));
    } catch (error) {
      // A damaged list is put again.
      if (isDamage(error)) return false;
      throw error;
    }
  }

  async #chunk(chunk: Chunk): Promise<void> {
    const { writer, env } = this.#to;
    if (!(await writer.has(env.chunks, chunk.digest.bytes))) await this.#copyChunk(chunk);
  }

  async #copyChunk({ digest, size }: Chunk): Promise<Uint8Array> {
    const { writer, env } = this.#to;
    const bytes = this.#source.chunk(digest, size);
    if (await writer.has(env.chunks, digest.bytes)) return bytes;
    await writer.chunk(digest, bytes);
    tell(this.#options, size);
    this.#unflushed += size;
    if (this.#unflushed >= FLUSH_BYTES) {
      this.#unflushed = 0;
      await writer.flush();
    }
    return bytes;
  }
}
