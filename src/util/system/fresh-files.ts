import { readFileSync, statSync } from 'node:fs';
import { messageOf } from '../errors.ts';
import { log } from '../log.ts';

/** They are looked at no more often than this, in milliseconds. */
const LOOK_MS = 1000;

/** What is made of files that may be replaced at any time, as those of tokens and certificates are. */
export class FreshFiles<T> {
  readonly #paths: readonly string[];
  readonly #make: (contents: readonly Buffer[]) => T;
  #value: T;
  #marks: string;
  #lookedAt = performance.now();
  #complaint: string | undefined;

  /** Throws what reading them throws, and what `make` does. */
  constructor(paths: readonly string[], make: (contents: readonly Buffer[]) => T) {
    this.#paths = paths;
    this.#make = make;
    this.#marks = this.#look();
    this.#value = this.#read();
  }

  /**
   * What they make, as they were a second ago at the latest; the same value until they change. While it cannot be made, as
   * when one of two files has been replaced, what they made before; the log tells.
   */
  get(): T {
    const now = performance.now();
    if (this.#paths.length === 0 || now - this.#lookedAt < LOOK_MS) return this.#value;
    this.#lookedAt = now;
    try {
      const marks = this.#look();
      if (marks !== this.#marks) {
        this.#value = this.#read();
        // Looked at before they were read: a change in between shows the next time.
        this.#marks = marks;
      }
      this.#complaint = undefined;
    } catch (error) {
      this.#complain(messageOf(error));
    }
    return this.#value;
  }

  /** Differs when one has been written to or replaced. */
  #look(): string {
    return this.#paths
      .map((path) => {
        const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
        return [dev, ino, size, mtimeNs, ctimeNs].join();
      })
      .join(' ');
  }

  #read(): T {
    return this.#make(this.#paths.map(contentsOf));
  }

  #complain(complaint: string): void {
    if (complaint === this.#complaint) return;
    this.#complaint = complaint;
    log.warn('a file has changed and cannot be used; going on with what it was', {
      file: this.#paths.join(', '),
      error: complaint,
    });
  }
}

function contentsOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    // Not every failure of the system names it.
    throw Object.assign(error as Error, { path });
  }
}
