import type { BigIntStats } from 'node:fs';
import { readFileSync, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { messageOf } from '../errors.ts';
import { log } from '../log.ts';

/** How often they are looked at, in milliseconds. */
const LOOK_MS = 500;

/**
 * What is made of files that may be replaced at any time, as those of tokens and certificates are. They are looked at
 * in the background: whoever waited for one that lies in a mount of this process would wait for itself.
 */
export class FreshFiles<T> {
  readonly #paths: readonly string[];
  readonly #make: (contents: readonly Buffer[]) => T;
  #value: T;
  /** How they looked when they were read, and when they were looked at last. */
  #marks: string;
  #seen: string;
  #isLooking = false;
  #complaint: string | undefined;

  /** Throws what reading them throws, and what `make` does. */
  constructor(paths: readonly string[], make: (contents: readonly Buffer[]) => T) {
    this.#paths = paths;
    this.#make = make;
    this.#marks = paths.map((path) => markOf(statSync(path, { bigint: true }))).join(' ');
    this.#seen = this.#marks;
    this.#value = make(paths.map(contentsOf));
    if (paths.length > 0) lookAgain(new WeakRef(this));
  }

  /**
   * What they make, as they were a second or two ago; the same value until they change. While it cannot be made, as
   * when one of two files has been replaced, what they made before; the log tells.
   */
  get(): T {
    return this.#value;
  }

  /**
   * Reads them again if they have changed, and have not since the last look: half of a file that is being written may
   * look like a whole one.
   */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      const marks = await this.#look();
      if (marks !== this.#marks && marks === this.#seen) {
        const contents = await Promise.all(this.#paths.map((path) => readFile(path)));
        if ((await this.#look()) === marks) {
          this.#value = this.#make(contents);
          this.#marks = marks;
        }
      }
      this.#seen = marks;
      if (marks === this.#marks) this.#complaint = undefined;
    } catch (error) {
      this.#complain(messageOf(error));
    } finally {
      this.#isLooking = false;
    }
  }

  async #look(): Promise<string> {
    const facts = await Promise.all(this.#paths.map((path) => stat(path, { bigint: true })));
    return facts.map(markOf).join(' ');
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

/** Looks again and again, for as long as somebody uses them. */
function lookAgain(files: WeakRef<FreshFiles<unknown>>): void {
  const timer = setInterval(() => {
    const used = files.deref();
    if (used) void used.look();
    else clearInterval(timer);
  }, LOOK_MS).unref();
}

/** Differs when a file has been written to or replaced. */
function markOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join();
}

function contentsOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    // Not every failure of the system names it.
    throw Object.assign(error as Error, { path });
  }
}
