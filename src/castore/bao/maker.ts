import { Digest } from '../digest.ts';
import { outboardLength, PARENT_LENGTH, partsOf, type Subtree, VALUE_LENGTH, wholeTree } from './shape.ts';
import { BATCH_LENGTH, groupValues, parentValue, valuesAbove } from './values.ts';

/** A blob's digest, and the outboard that proves parts of it. */
export interface Proof {
  readonly digest: Digest;
  /** Length of the blob in bytes. */
  readonly size: number;
  readonly outboard: Uint8Array;
}

/** Makes the outboard of a blob that comes in parts of any length. Holds twice the outboard at most. */
export class OutboardMaker {
  /** What has come behind the last whole batch; made when it is needed, since that takes its time. */
  #batch: Uint8Array | undefined;
  #filled = 0;
  #values = new Uint8Array(64 * VALUE_LENGTH);
  #groups = 0;
  #size = 0;

  update(bytes: Uint8Array): this {
    this.#size += bytes.length;
    let rest = bytes;
    if (this.#filled > 0) {
      rest = this.#gather(rest);
      if (this.#filled < BATCH_LENGTH) return this;
      this.#add(this.#batch!);
      this.#filled = 0;
    }
    const whole = rest.length - (rest.length % BATCH_LENGTH);
    if (whole > 0) this.#add(rest.subarray(0, whole));
    if (whole < rest.length) this.#gather(rest.subarray(whole));
    return this;
  }

  /** Takes as much as there is room for in the batch, and gives the rest. */
  #gather(bytes: Uint8Array): Uint8Array {
    this.#batch ??= new Uint8Array(BATCH_LENGTH);
    const taken = bytes.subarray(0, BATCH_LENGTH - this.#filled);
    this.#batch.set(taken, this.#filled);
    this.#filled += taken.length;
    return bytes.subarray(taken.length);
  }

  finish(): Proof {
    const tree = wholeTree(this.#size);
    const size = this.#size;
    const last = this.#batch?.subarray(0, this.#filled) ?? new Uint8Array(0);
    if (tree.count === 1) return { digest: Digest.hash(last), size, outboard: new Uint8Array(0) };
    this.#add(last);
    const levels: Uint8Array[] = [this.#values.subarray(0, this.#groups * VALUE_LENGTH)];
    while (levels.at(-1)!.length > PARENT_LENGTH) levels.push(valuesAbove(levels.at(-1)!));
    const outboard = new Uint8Array(outboardLength(size));
    fill(outboard, tree, levels);
    return { digest: Digest.of(parentValue(levels.at(-1)!, true)), size, outboard };
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
}

/** Writes the parents of a part of the tree, given the values of all levels, from the groups up. */
function fill(outboard: Uint8Array, tree: Subtree, levels: readonly Uint8Array[]): void {
  if (tree.count === 1) return;
  const height = Math.ceil(Math.log2(tree.count));
  // Both of its children stand together in their level.
  const at = (tree.first / 2 ** height) * PARENT_LENGTH;
  outboard.set(levels[height - 1]!.subarray(at, at + PARENT_LENGTH), tree.at);
  for (const part of partsOf(tree)) fill(outboard, part, levels);
}
