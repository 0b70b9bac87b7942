/** Room for most answers, in bytes. */
const FIRST_LENGTH = 2048;

/** Gathers values as Nix's worker protocol has them (see `WireReader`). */
export class WireWriter {
  #bytes = Buffer.allocUnsafe(FIRST_LENGTH);
  #length = 0;

  number(value: number | bigint): this {
    const at = this.#extend(8);
    if (typeof value === 'bigint') this.#bytes.writeBigUInt64LE(value, at);
    else {
      this.#bytes.writeUInt32LE(value % 2 ** 32, at);
      this.#bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
    }
    return this;
  }

  flag(value: boolean): this {
    return this.number(value ? 1 : 0);
  }

  text(value: string): this {
    const length = Buffer.byteLength(value);
    this.number(length);
    const at = this.#extend(length + (-length & 7));
    this.#bytes.write(value, at);
    for (let end = at + length; end < this.#length; end++) this.#bytes[end] = 0;
    return this;
  }

  texts(values: readonly string[]): this {
    this.number(values.length);
    for (const value of values) this.text(value);
    return this;
  }

  /** What another writer has gathered. */
  bytes(bytes: Uint8Array): this {
    const at = this.#extend(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  /** What has been gathered since the last time. */
  take(): Buffer {
    const bytes = Buffer.from(this.#bytes.subarray(0, this.#length));
    this.#length = 0;
    if (this.#bytes.length > FIRST_LENGTH) this.#bytes = Buffer.allocUnsafe(FIRST_LENGTH);
    return bytes;
  }

  /** Makes room for so many bytes, and tells where it is. */
  #extend(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const longer = Buffer.allocUnsafe(Math.max(this.#length, 2 * this.#bytes.length));
      this.#bytes.copy(longer, 0, 0, at);
      this.#bytes = longer;
    }
    return at;
  }
}
