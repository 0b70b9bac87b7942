import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** So many bytes are kept in memory before they go to a file. */
const IN_MEMORY = 16 << 20;

/** Closes the files of those that nobody has closed, as when what they were for has failed. */
const files = new FinalizationRegistry<number>((fd) => closeSync(fd));

/** A row of byte strings that can be read any number of times. Beyond 16 MiB it lies in a temporary file without a name. */
export class Spool {
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #fd: number | undefined;
  /** Lengths of those in the file. */
  readonly #lengths: number[] = [];

  /** Keeps bytes, which must not change any more. */
  add(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#bytes += bytes.length;
    if (this.#bytes > IN_MEMORY) this.#write();
  }

  #write(): void {
    if (this.#fd === undefined) {
      this.#fd = temporary();
      files.register(this, this.#fd, this);
    }
    const bytes = Buffer.concat(this.#parts);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    for (const { length } of this.#parts) this.#lengths.push(length);
    this.#parts = [];
    this.#bytes = 0;
  }

  /** All of them, in their order. */
  *[Symbol.iterator](): Generator<Uint8Array> {
    let position = 0;
    for (const length of this.#lengths) {
      const bytes = Buffer.allocUnsafe(length);
      for (let at = 0; at < length; ) {
        const count = readSync(this.#fd!, bytes, at, length - at, position + at);
        if (count === 0) throw new Error('a temporary file has been cut');
        at += count;
      }
      position += length;
      yield bytes;
    }
    yield* this.#parts;
  }

  close(): void {
    files.unregister(this);
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#lengths.length = 0;
    this.#parts = [];
  }
}

/** A file that is gone when it is closed. */
function temporary(): number {
  const directory = mkdtempSync(join(tmpdir(), 'tvix-store-'));
  try {
    return openSync(join(directory, 'spool'), 'wx+', 0o600);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
