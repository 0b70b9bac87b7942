import { damaged, invalid } from '../../util/errors.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';

/**
 * Directories, named by the digest of their canonical encoding. A call whose signal has fired already does nothing,
 * and throws the signal's reason.
 */
export interface DirectoryService {
  /** Where puts go, if that is only a part of what is read: a copy that is kept elsewhere may go. */
  readonly target?: DirectoryService | undefined;

  /** The directory of this digest; `undefined` when it is not there. */
  get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined>;

  /**
   * The directory and everything below it: the root first, then breadth first, each directory once.
   * Nothing when the root is not there; throws DATA_LOSS when a descendant is missing.
   */
  getRecursive(digest: Digest, signal?: AbortSignal): AsyncIterable<Directory>;

  /** Takes a single directory. Visible and durable once a later `flush` has resolved. */
  put(directory: Directory): Promise<void>;

  /**
   * Begins to take a closure, leaves first. Each directory may refer only to those added before it, even
   * if the service has others.
   */
  putMany(): DirectoryPutter;

  /** Makes everything that was put before visible and durable. */
  flush(): Promise<void>;
}

/** Takes the directories of one closure. */
export interface DirectoryPutter {
  /** Throws INVALID_ARGUMENT for a directory that refers to an unknown one, or to one of another size. */
  add(directory: Directory): Promise<void>;
  /** Ends the closure and gives its root. Throws INVALID_ARGUMENT when it is empty or has several roots. */
  close(): Promise<Digest>;
}

/** Checks the order and the claims of a closure that comes leaves first (protocol.md 1.6). */
export class ClosureValidator {
  readonly #known = new Map<string, Directory['acceptsSize']>();
  readonly #unreferenced = new Map<string, Digest>();
  #last: Digest | undefined;

  /** Returns false for a directory that was there before. Throws INVALID_ARGUMENT. */
  add(directory: Directory): boolean {
    const digest = directory.digest;
    if (this.#known.has(digest.hex)) return false;
    for (const child of directory.children()) {
      const accepts = this.#known.get(child.digest.hex);
      if (!accepts)
        throw invalid(`directory ${digest} refers to ${child.digest}, which was not sent before it`);
      if (!accepts(child.size))
        throw invalid(`directory ${digest} gives a wrong size, ${child.size}, for ${child.digest}`);
      this.#unreferenced.delete(child.digest.hex);
    }
    this.#known.set(digest.hex, directory.sizeCheck());
    this.#unreferenced.set(digest.hex, digest);
    this.#last = digest;
    return true;
  }

  /** The root. Throws INVALID_ARGUMENT unless there is exactly one. */
  finish(): Digest {
    if (!this.#last) throw invalid('no directories were sent');
    if (this.#unreferenced.size !== 1)
      throw invalid(`the directories sent have ${this.#unreferenced.size} roots, want 1`);
    return this.#last;
  }
}

/** A putter over `put`: checks the closure and hands each directory on. */
export function validatingPutter(put: (directory: Directory) => Promise<void>): DirectoryPutter {
  const validator = new ClosureValidator();
  return {
    async add(directory) {
      if (validator.add(directory)) await put(directory);
    },
    async close() {
      return validator.finish();
    },
  };
}

/** Walks a closure breadth first over `get`, each directory once. See `DirectoryService.getRecursive`. */
export async function* walkClosure(
  root: Digest,
  get: (digest: Digest) => Promise<Directory | undefined>,
  missing: (digest: Digest) => Error,
): AsyncGenerator<Directory> {
  const seen = new Set([root.hex]);
  const queue = [root];
  for (let i = 0; i < queue.length; i++) {
    const directory = await get(queue[i]!);
    if (!directory) {
      if (i === 0) return;
      throw missing(queue[i]!);
    }
    yield directory;
    for (const { digest } of directory.children()) {
      if (seen.has(digest.hex)) continue;
      seen.add(digest.hex);
      queue.push(digest);
    }
  }
}

/** The closure of a root among directories by their digests in hexadecimal, in the order of `walkClosure`. */
export function closureAmong(
  root: Digest,
  directories: ReadonlyMap<string, Directory>,
): Promise<Directory[]> {
  const get = async ({ hex }: Digest) => directories.get(hex);
  return Array.fromAsync(walkClosure(root, get, (one) => damaged(`directory ${one} is missing`)));
}
