import { ObjectStoreBlobService } from '../../../castore/blob/object-store.ts';
import type { Digest } from '../../../castore/digest.ts';
import { ObjectStoreDirectoryService } from '../../../castore/directory/object-store.ts';
import { DigestMap } from '../../../castore/local/digest-map.ts';
import type { FileNode, Node } from '../../../castore/node.ts';
import type { Kind, ObjectStore, OurKind } from '../../../castore/objects/object-store.ts';
import { filesOf } from '../../../castore/walk.ts';
import { eachOf } from '../../../util/async/each-of.ts';
import { isDamage } from '../../../util/errors.ts';

const READ_AT_ONCE = 32;

/** Hears of what a tree is made of. */
export interface Watch {
  /** Directories, or the list of a blob's chunks, are missing or damaged. */
  broken(kind: Kind, digest: Digest, problem: string): void;
  /** A chunk, and the blob that it is a part of. */
  chunk?(digest: Digest, blob: Digest): void;
}

/** What trees are made of among the objects of a bucket. */
export class References {
  readonly seen: Record<Kind, DigestMap> = {
    dirs: new DigestMap(),
    blobs: new DigestMap(),
    chunks: new DigestMap(),
  };
  readonly #directories: ObjectStoreDirectoryService;
  readonly #blobs: ObjectStoreBlobService;
  readonly #hasList: (digest: Uint8Array) => boolean;

  /** `hasList`: whether a blob has an object that lists its chunks. */
  constructor(objects: ObjectStore, hasList: (digest: Uint8Array) => boolean) {
    this.#directories = new ObjectStoreDirectoryService(objects);
    this.#blobs = new ObjectStoreBlobService(objects);
    this.#hasList = hasList;
  }

  /** Adds all that a tree is made of, but for what has been added before. */
  async add(root: Node, watch: Watch, signal?: AbortSignal): Promise<void> {
    if (root.kind === 'file') await this.#file(root, watch, signal);
    if (root.kind !== 'directory' || !this.seen.dirs.set(root.digest.bytes)) return;
    const files: FileNode[] = [];
    await catching('dirs', root.digest, watch, async () => {
      let count = 0;
      for await (const directory of this.#directories.getRecursive(root.digest, signal)) {
        count++;
        for (const file of filesOf(directory)) files.push(file);
      }
      if (count === 0) watch.broken('dirs', root.digest, 'it is missing');
    });
    await eachOf(files, READ_AT_ONCE, signal, (file, abort) => this.#file(file, watch, abort));
  }

  /** Whether something belongs to what has been added. */
  isSeen(kind: OurKind, digest: Uint8Array): boolean {
    // An outboard goes with its blob, which may be a single chunk.
    const kinds = kind === 'bao' ? (['blobs', 'chunks'] as const) : [kind];
    return kinds.some((one) => this.seen[one].has(digest));
  }

  async #file({ digest, size }: FileNode, watch: Watch, signal: AbortSignal | undefined): Promise<void> {
    const chunk = (one: Digest) => {
      this.seen.chunks.set(one.bytes);
      watch.chunk?.(one, digest);
    };
    if (!this.#hasList(digest.bytes)) {
      chunk(digest);
      return;
    }
    if (!this.seen.blobs.set(digest.bytes)) return;
    await catching('blobs', digest, watch, async () => {
      // Others write a list for a blob of one chunk, too: that gives none.
      const chunks = (await this.#blobs.chunks(digest, signal)) ?? [];
      if (chunks.length === 0) chunk(digest);
      for (const one of chunks) chunk(one.digest);
      const sum = chunks.reduce((total, one) => total + one.size, 0);
      if (chunks.length > 0 && BigInt(sum) !== size)
        watch.broken('blobs', digest, `its chunks have ${sum} bytes, not ${size}`);
    });
  }
}

/** Tells of damage; whatever else fails, fails. */
async function catching(kind: Kind, digest: Digest, watch: Watch, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isDamage(error)) throw error;
    watch.broken(kind, digest, error.message);
  }
}
