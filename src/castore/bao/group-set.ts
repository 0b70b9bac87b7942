import { GROUP_LENGTH } from './shape.ts';

/** Groups of a blob, from `first` up to `end`, by number. */
export interface Groups {
  readonly first: number;
  readonly end: number;
}

/** The groups in which a part of a blob lies. */
export function groupsOver(offset: number, length: number): Groups {
  return { first: Math.floor(offset / GROUP_LENGTH), end: Math.ceil((offset + length) / GROUP_LENGTH) };
}

/** A set of groups of a blob: a bit for each. */
export class GroupSet {
  #bits = new Uint8Array(0);
  /** How many there are. */
  count = 0;

  add({ first, end }: Groups): void {
    const bytes = Math.ceil(end / 8);
    if (bytes > this.#bits.length) {
      const larger = new Uint8Array(Math.max(bytes, 2 * this.#bits.length));
      larger.set(this.#bits);
      this.#bits = larger;
    }
    for (let group = first; group < end; group++) {
      if (this.#has(group)) continue;
      this.#bits[group >> 3]! |= 1 << (group & 7);
      this.count++;
    }
  }

  hasAll({ first, end }: Groups): boolean {
    for (let group = first; group < end; group++) if (!this.#has(group)) return false;
    return true;
  }

  #has(group: number): boolean {
    return ((this.#bits[group >> 3] ?? 0) & (1 << (group & 7))) !== 0;
  }
}
