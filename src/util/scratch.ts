/** How much longer it becomes than what it is needed for, in bytes. */
const SPARE = 32 * 1024;

/** Memory that is used over and over, for what is needed only for a moment. */
export class Scratch {
  readonly #places: Buffer[];
  #next = 0;

  /** `places`: so many things in a row lie in different places. */
  constructor(places = 1) {
    this.#places = Array.from({ length: places }, () => Buffer.alloc(0));
  }

  /** Memory that has not been cleared; what was taken some turns before is in the same place. */
  take(length: number): Buffer {
    const at = this.#next;
    this.#next = (at + 1) % this.#places.length;
    const place = this.#places[at]!;
    if (place.length >= length) return place.subarray(0, length);
    // What is needed once may be all there is.
    const spare = place.length > 0 ? SPARE : 0;
    const longer = Buffer.allocUnsafeSlow(length + spare);
    this.#places[at] = longer;
    return longer.subarray(0, length);
  }
}
