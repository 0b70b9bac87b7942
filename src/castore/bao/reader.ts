import { LRUCache } from 'lru-cache';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged, invalid, StoreError } from '../../util/errors.ts';
import type { Chunk, Outboard } from '../blob/service.ts';
import { isDigestOf } from '../digest.ts';
import {
  GROUP_LENGTH,
  lengthOf,
  PARENT_LENGTH,
  partsOf,
  type Subtree,
  VALUE_LENGTH,
  wholeTree,
} from './shape.ts';
import { groupValues, parentValue } from './values.ts';

/** A page is a part of the tree of at most so many groups, 4 MiB of the blob: its parents are read at once, 16 KiB. */
const PAGE_GROUPS = 256;
/** Pages that are remembered, 8 KiB each; and parents above the pages. */
const PAGES = 32;
const PARENTS_ABOVE = 4096;

/** A DATA_LOSS of an outboard: nothing is known of the contents. */
export class WrongOutboard extends StoreError {
  constructor({ digest, size }: Chunk) {
    super('DATA_LOSS', `the outboard of blob ${digest} is damaged, or the blob does not have ${size} bytes`);
  }
}

/**
 * Proves parts of a blob by an outboard, of which it reads what it needs. What is proven is what the digest says,
 * whoever bytes and outboard come from. Whether the blob has as many bytes as it is said to have is proven with its
 * last group: what has been proven before is right, but there may be more behind it.
 */
export class OutboardReader {
  readonly #blob: Chunk;
  readonly #outboard: Outboard;
  /** The proven values of a page's groups, by the number of its first group. */
  readonly #pages = new LRUCache<number, Uint8Array>({ max: PAGES });
  /** Proven parents that have more groups below them than a page, by their place in the outboard. */
  readonly #above = new LRUCache<number, Uint8Array>({ max: PARENTS_ABOVE });
  readonly #flights = new SingleFlight<Uint8Array>();

  /** The outboard's errors go to whoever asked for a proof. */
  constructor(blob: Chunk, outboard: Outboard) {
    this.#blob = blob;
    this.#outboard = outboard;
  }

  /**
   * Throws WrongOutboard, or another DATA_LOSS unless `bytes` are those at `offset` of the blob. They are whole groups: `offset` is a multiple of
   * the group's length, and only the blob's last group is shorter.
   */
  async prove(offset: number, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { digest, size } = this.#blob;
    const end = offset + bytes.length;
    if (offset % GROUP_LENGTH !== 0 || end > size || (end % GROUP_LENGTH !== 0 && end !== size))
      throw invalid(`bytes ${offset} to ${end} of a blob of ${size} bytes are not whole groups`);
    if (wholeTree(size).count === 1) {
      if (bytes.length === size && !isDigestOf(digest.bytes, bytes)) throw this.#wrong(offset, end);
      return;
    }
    for (let at = offset; at < end; ) {
      const group = at / GROUP_LENGTH;
      const { page, path } = this.#wayTo(group);
      // What has been loaded is there at once, so that the bytes are looked at before anybody can change them.
      const values = this.#pages.get(page.first) ?? (await this.#provenPage(page, path, signal));
      const behind = Math.min(end, (page.first + page.count) * GROUP_LENGTH);
      const found = groupValues(bytes.subarray(at - offset, behind - offset), group);
      const from = (group - page.first) * VALUE_LENGTH;
      if (!isEqual(found, values.subarray(from, from + found.length))) throw this.#wrong(at, behind);
      at = behind;
    }
  }

  /**
   * Gets what is needed to prove a part of the blob, of at most a few megabytes: `prove` then looks at all bytes before it
   * returns its promise.
   */
  async load(offset: number, length: number, signal?: AbortSignal): Promise<void> {
    if (wholeTree(this.#blob.size).count === 1) return;
    for (let at = offset; at < offset + length; ) {
      const { page, path } = this.#wayTo(Math.floor(at / GROUP_LENGTH));
      if (!this.#pages.get(page.first)) await this.#provenPage(page, path, signal);
      at = (page.first + page.count) * GROUP_LENGTH;
    }
  }

  /** The page of a group, and what it lies in, from the whole tree down. */
  #wayTo(group: number): { page: Subtree; path: readonly Subtree[] } {
    const path: Subtree[] = [];
    let tree = wholeTree(this.#blob.size);
    while (tree.count > PAGE_GROUPS) {
      path.push(tree);
      const [left, right] = partsOf(tree);
      tree = group < right.first ? left : right;
    }
    return { page: tree, path };
  }

  #provenPage(page: Subtree, path: readonly Subtree[], signal?: AbortSignal): Promise<Uint8Array> {
    const prove = async (shared: AbortSignal) => {
      const read = (at: number, length: number) => this.#exactly(at, length, shared);
      // All at once: what does not fit is found when everything is there.
      const [parents, ...above] = await Promise.all([
        read(page.at, lengthOf(page.count)),
        ...path.map(({ at }) => this.#above.get(at) ?? read(at, PARENT_LENGTH)),
      ]);
      let value = this.#blob.digest.bytes;
      for (const [i, tree] of path.entries()) {
        const parent = above[i]!;
        this.#checkParent(tree, parent, value);
        this.#above.set(tree.at, parent);
        value = valuesIn(parent)[(path[i + 1] ?? page).first === tree.first ? 0 : 1];
      }
      const values = new Uint8Array(page.count * VALUE_LENGTH);
      this.#proveTree(page, parents, page, value, values);
      this.#pages.set(page.first, values);
      return values;
    };
    return this.#flights.run(`${page.first}`, prove, signal);
  }

  async #exactly(at: number, length: number, signal: AbortSignal): Promise<Uint8Array> {
    const bytes = length > 0 ? await this.#outboard.read(at, length, signal) : new Uint8Array(0);
    if (bytes.length !== length) throw new WrongOutboard(this.#blob);
    // Of its own: what is remembered must not keep a larger buffer, nor change.
    return Uint8Array.from(bytes);
  }

  /** Checks the parents of a part of a page against its value, from above, and writes the values of its groups. */
  #proveTree(tree: Subtree, parents: Uint8Array, page: Subtree, value: Uint8Array, values: Uint8Array): void {
    if (tree.count === 1) {
      values.set(value, (tree.first - page.first) * VALUE_LENGTH);
      return;
    }
    const at = tree.at - page.at;
    const parent = parents.subarray(at, at + PARENT_LENGTH);
    this.#checkParent(tree, parent, value);
    const [left, right] = partsOf(tree);
    const [leftValue, rightValue] = valuesIn(parent);
    this.#proveTree(left, parents, page, leftValue, values);
    this.#proveTree(right, parents, page, rightValue, values);
  }

  #checkParent(tree: Subtree, parent: Uint8Array, value: Uint8Array): void {
    // Only the root is at the beginning.
    if (!isEqual(parentValue(parent, tree.at === 0), value)) throw new WrongOutboard(this.#blob);
  }

  #wrong(from: number, end: number): StoreError {
    return damaged(`bytes ${from} to ${end} of blob ${this.#blob.digest} are not what its digest says`);
  }
}

function valuesIn(parent: Uint8Array): readonly [Uint8Array, Uint8Array] {
  return [parent.subarray(0, VALUE_LENGTH), parent.subarray(VALUE_LENGTH)];
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return asBuffer(a).equals(b);
}
