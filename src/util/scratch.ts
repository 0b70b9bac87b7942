/** Room for somewhat more than was asked for: lengths differ. */
const SPARE = 32 * 1024;

/** Memory that is used over and over, for what is needed only for a moment. */
export class Scratch {
  #memory = Buffer.alloc(0);

  /** Memory that has not been cleared; what was taken before is in the same place. */
  take(length: number): Buffer {
    // What is needed once may be all there is.
    const spare = this.#memory.length > 0 ? SPARE : 0;
    if (this.#memory.length < length) this.#memory = Buffer.allocUnsafeSlow(length + spare);
    return this.#memory.subarray(0, length);
  }
}
