import { Turns } from '../../util/async/turns.ts';
import { outboardLength } from '../bao/shape.ts';
import { SINGLE_CHUNK_LIMIT } from '../blob/service.ts';
import { Digest } from '../digest.ts';
import { Directory } from '../directory.ts';
import { KIND } from '../directory-codec.ts';
import type { Node } from '../node.ts';
import type { LocalReader } from './reader.ts';

/** Sees what a tree is made of. Digests are views, valid during the call. */
export interface TreeVisitor {
  /** Whether to look into it. */
  directory(digest: Uint8Array): boolean;
  blob(digest: Uint8Array, size: number): boolean;
  chunk(digest: Uint8Array, size: number): void;
  /** A part of a blob's outboard, for whoever wants to see what only makes reading surer. */
  outboardChunk?(digest: Uint8Array): void;
  /** A directory, or a chunk list, that is not there or not what its digest says. */
  broken(kind: 'directory' | 'manifest', digest: Uint8Array): void;
}

/** Where directories and chunk lists are read. */
export type TreeSource = Pick<LocalReader, 'directory' | 'manifest' | 'refresh'> &
  Partial<Pick<LocalReader, 'outboard'>>;

/** Walks trees in a local store, and checks their directories on the way. */
export class TreeWalker {
  readonly #reader: TreeSource;
  readonly #visitor: TreeVisitor;
  readonly #turns = new Turns();

  constructor(reader: TreeSource, visitor: TreeVisitor) {
    this.#reader = reader;
    this.#visitor = visitor;
  }

  async walk(root: Node): Promise<void> {
    if (root.kind === 'file') this.#blob(root.digest.bytes, Number(root.size));
    if (root.kind === 'directory') await this.walkFrom(root.digest.bytes);
  }

  /** Walks a directory and all below it. */
  async walkFrom(root: Uint8Array): Promise<void> {
    for (const _ of this.#steps(root)) {
      if (!this.#turns.isDue) continue;
      await this.#turns.take();
      // LMDB may use its old pages again.
      this.#reader.refresh();
    }
  }

  /** Walks a tree at one go, so that all of it is read from the same state. */
  walkAtOnce(root: Node): void {
    if (root.kind === 'file') this.#blob(root.digest.bytes, Number(root.size));
    if (root.kind === 'directory') for (const _ of this.#steps(root.digest.bytes));
  }

  *#steps(root: Uint8Array): Generator<void> {
    const queue = this.#visitor.directory(root) ? [root] : [];
    for (let digest = queue.pop(); digest; digest = queue.pop()) {
      yield;
      const directory = readDirectory(this.#reader, digest);
      if (!directory) this.#visitor.broken('directory', digest);
      else this.#directory(directory, queue);
    }
  }

  #directory(directory: Directory, queue: Uint8Array[]): void {
    for (let i = 0; i < directory.length; i++) {
      const kind = directory.kind(i);
      if (kind === KIND.symlink) continue;
      const digest = directory.bytes.subarray(directory.valueStart(i), directory.valueEnd(i));
      if (kind === KIND.file) this.#blob(digest, directory.sizeNumber(i));
      else if (this.#visitor.directory(digest)) queue.push(digest);
    }
  }

  #blob(digest: Uint8Array, size: number): void {
    if (!this.#visitor.blob(digest, size)) return;
    if (this.#visitor.outboardChunk && outboardLength(size) > 0)
      for (const chunk of this.#reader.outboard?.(digest) ?? [])
        this.#visitor.outboardChunk(chunk.digest.bytes);
    if (size > SINGLE_CHUNK_LIMIT) {
      try {
        const chunks = this.#reader.manifest(digest);
        for (const chunk of chunks ?? []) this.#visitor.chunk(chunk.digest.bytes, chunk.size);
        if (chunks) return;
      } catch {
        this.#visitor.broken('manifest', digest);
        return;
      }
    }
    this.#visitor.chunk(digest, size);
  }
}

/** A directory that is what its digest says. */
export function readDirectory(reader: TreeSource, digest: Uint8Array): Directory | undefined {
  const bytes = reader.directory(digest);
  if (!bytes || !Digest.hash(bytes).equals(Digest.of(digest))) return undefined;
  return Directory.decode(bytes);
}
