import type { Hash as NodeHash } from 'node:crypto';
import { createHash } from 'node:crypto';
import { asBuffer } from '../util/bytes.ts';
import type { HashAlgorithm } from './hash.ts';
import type { StorePath } from './store-path.ts';

/**
 * Hashes contents that refer to their own store path, as Nix does for their address: the path's hash is left out
 * wherever it occurs, NUL bytes in its place, and the positions are hashed at the end (but for Nix 2.17 to 2.34).
 */
export class SelfHash {
  readonly #hash: NodeHash;
  readonly #self: Buffer;
  readonly #positions: number[] = [];
  /** The end of what has come, in which the path's hash may begin. */
  #rest: Buffer = Buffer.alloc(0);
  #position = 0;

  constructor(algorithm: HashAlgorithm, path: StorePath) {
    this.#hash = createHash(algorithm);
    this.#self = Buffer.from(path.hashText);
  }

  update(part: Uint8Array): void {
    const bytes = Buffer.concat([this.#rest, asBuffer(part)]);
    for (let at = bytes.indexOf(this.#self); at >= 0; at = bytes.indexOf(this.#self, at)) {
      this.#positions.push(this.#position + at);
      bytes.fill(0, at, at + this.#self.length);
    }
    const end = Math.max(0, bytes.length - this.#self.length + 1);
    this.#hash.update(bytes.subarray(0, end));
    this.#rest = bytes.subarray(end);
    this.#position += end;
  }

  /** What the address may be: with the positions, and without. */
  digests(): Buffer[] {
    this.#hash.update(this.#rest);
    const without = this.#hash.copy().digest();
    for (const position of this.#positions) this.#hash.update(`|${position}`);
    return [this.#hash.digest(), without];
  }
}
