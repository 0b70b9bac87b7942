import { closeSync, openSync } from 'node:fs';
import { DEFAULT_CUTTER } from '../../blob/cutter-options.ts';
import { isDigestOf } from '../../digest.ts';
import { readsWhole } from '../whole-chunk.ts';
import { SLOTS, type Slots, STATE } from './slots.ts';

/** Hashes chunks that are asked for in slots. Any number of threads may do that. */
export class SlotChecker {
  readonly #slots: Slots;
  #next = 0;
  #buffer = Buffer.alloc(0);

  constructor(slots: Slots) {
    this.#slots = slots;
  }

  /** Hashes one, each in turn, so that what was asked for first is hashed first. False when nobody wants one. */
  checkOne(): boolean {
    for (let skipped = 0; skipped < SLOTS; skipped++, this.#next = (this.#next + 1) % SLOTS) {
      if (!this.#slots.change(this.#next, STATE.WANTED, STATE.BUSY)) continue;
      this.#slots.change(this.#next, STATE.BUSY, this.#isSound(this.#next) ? STATE.SOUND : STATE.FAILED);
      return true;
    }
    return false;
  }

  /** Whether a chunk is what its digest says. What is wrong with one that is not, those who read it will say. */
  #isSound(slot: number): boolean {
    const { path, size, digest } = this.#slots.wanted(slot);
    if (this.#buffer.length < size) this.#buffer = Buffer.allocUnsafeSlow(Math.max(size, DEFAULT_CUTTER.max));
    const bytes = this.#buffer.subarray(0, size);
    try {
      const fd = openSync(path, 'r');
      try {
        return readsWhole(fd, bytes) && isDigestOf(digest, bytes);
      } finally {
        closeSync(fd);
      }
    } catch {
      return false;
    }
  }
}
