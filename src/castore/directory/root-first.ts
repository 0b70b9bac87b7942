import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';

/**
 * Checks a closure that comes from its root on: each directory must be one that those before it refer to, of a
 * size they claim, and come once.
 */
export class RootFirstValidator {
  readonly #root: Digest;
  readonly #lie: (what: string) => Error;
  /** Claimed sizes of what is still to come. */
  readonly #expected: Map<string, bigint[]>;
  readonly #seen = new Map<string, Directory['acceptsSize']>();

  /** `lie` makes the error for what is wrong, a part of a sentence whose subject is the sender. */
  constructor(root: Digest, lie: (what: string) => Error) {
    this.#root = root;
    this.#lie = lie;
    this.#expected = new Map([[root.hex, []]]);
  }

  add(directory: Directory): void {
    const { hex } = directory.digest;
    const claims = this.#expected.get(hex);
    if (!claims) throw this.#lie(`sent directory ${directory.digest}, which nothing refers to`);
    this.#expected.delete(hex);
    const accepts = directory.sizeCheck();
    this.#seen.set(hex, accepts);
    if (!claims.every(accepts)) throw this.#lie(`gives a wrong size for directory ${directory.digest}`);
    for (const child of directory.children()) {
      const known = this.#seen.get(child.digest.hex);
      if (known && !known(child.size)) throw this.#lie(`gives a wrong size for directory ${child.digest}`);
      if (known) continue;
      const waiting = this.#expected.get(child.digest.hex);
      if (waiting) waiting.push(child.size);
      else this.#expected.set(child.digest.hex, [child.size]);
    }
  }

  /** Digests of what has come, in hexadecimal. */
  seen(): Set<string> {
    return new Set(this.#seen.keys());
  }

  /** To be called at the end. Nothing at all may come: then the root is not there. */
  finish(): void {
    if (this.#seen.size > 0 && this.#expected.size > 0)
      throw this.#lie(`left out ${this.#expected.size} directories below ${this.#root}`);
  }
}
