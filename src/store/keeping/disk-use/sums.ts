import { DigestMap } from '../../../castore/local/digest-map.ts';

/** How many bytes parts have, each counted once. */
export class Sum {
  bytes = 0;
  readonly #seen = new DigestMap();

  add(digest: Uint8Array, bytes: number): void {
    if (this.#seen.set(digest)) this.bytes += bytes;
  }
}

/** Stands for more than one owner. */
const SHARED = 0xffff_ffff;

/** How many bytes belong to each of many owners alone. */
export class OwnSums {
  readonly #owners = new DigestMap();
  /** By the number of the owner. */
  readonly #bytes: number[] = [];

  /** `owner` counts from 0. */
  add(owner: number, digest: Uint8Array, bytes: number): void {
    const before = this.#owners.get(digest);
    if (before === owner + 1 || before === SHARED) return;
    this.#owners.set(digest, before === 0 ? owner + 1 : SHARED);
    if (before === 0) this.#bytes[owner] = this.of(owner) + bytes;
    else this.#bytes[before - 1]! -= bytes;
  }

  of(owner: number): number {
    return this.#bytes[owner] ?? 0;
  }
}
