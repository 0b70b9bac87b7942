import { Digest } from '../digest.ts';
import { outboardLength, PARENT_LENGTH, partsOf, type Subtree, VALUE_LENGTH, wholeTree } from './shape.ts';
import { BATCH_LENGTH, groupValues, parentValue } from './values.ts';

/** A blob's digest, and the outboard that proves parts of it. */
export interface Proof {
  readonly digest: Digest;
  /** Length of the blob in bytes. */
  readonly size: number;
  readonly outboard: Uint8Array;
}

/** Makes the outboard of a blob that comes in parts of any length. Holds one and a half times the outboard at most. */
export class OutboardMaker {
  /** What has come behind the last whole batch. */
  readonly #batch = new Uint8Array(BATCH_LENGTH);
  #filled = 0;
  #values = new Uint8Array(1024 * VALUE_LENGTH);
  #groups = 0;
  #size = 0;

  update(bytes: Uint8Array): this {
    this.#size += bytes.length;
    let rest = bytes;
    if (this.#filled > 0) {
      const taken = rest.subarray(0, BATCH_LENGTH - this.#filled);
      this.#batch.set(taken, this.#filled);
      this.#filled += taken.length;
      if (this.#filled < BATCH_LENGTH) return this;
      this.#add(this.#batch);
      rest = rest.subarray(taken.length);
    }
    const whole = rest.length - (rest.length % BATCH_LENGTH);
    if (whole > 0) this.#add(rest.subarray(0, whole));
    this.#batch.set(rest.subarray(whole));
    this.#filled = rest.length - whole;
    return this;
  }

  finish(): Proof {
    const tree = wholeTree(this.#size);
    const size = this.#size;
    const last = this.#batch.subarray(0, this.#filled);
    if (tree.count === 1) return { digest: Digest.hash(last), size, outboard: new Uint8Array(0) };
    this.#add(last);
    const outboard = new Uint8Array(outboardLength(size));
    return { digest: Digest.of(this.#fill(outboard, tree, true)), size, outboard };
  }

  #add(groups: Uint8Array): void {
    const values = groupValues(groups, this.#groups);
    const at = this.#groups * VALUE_LENGTH;
    if (at + values.length > this.#values.length) {
      const larger = new Uint8Array(Math.max(2 * at, at + values.length));
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values.set(values, at);
    this.#groups += values.length / VALUE_LENGTH;
  }

  /** Writes the parents of a part of the tree, and gives its value. */
  #fill(outboard: Uint8Array, tree: Subtree, isRoot: boolean): Uint8Array {
    if (tree.count === 1) {
      const at = tree.first * VALUE_LENGTH;
      return this.#values.subarray(at, at + VALUE_LENGTH);
    }
    const [left, right] = partsOf(tree);
    const parent = outboard.subarray(tree.at, tree.at + PARENT_LENGTH);
    parent.set(this.#fill(outboard, left, false));
    parent.set(this.#fill(outboard, right, false), VALUE_LENGTH);
    return parentValue(parent, isRoot);
  }
}
