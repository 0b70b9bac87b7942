import { printable } from '../../util/bytes.ts';
import type { StoreError } from '../../util/errors.ts';
import { invalid } from '../../util/errors.ts';
import { MAX_TREE_DEPTH } from '../../util/tree-depth.ts';
import { Cursor } from './cursor.ts';
import type { State, Word, WordState } from './grammar.ts';
import { describeState, GRAMMAR } from './grammar.ts';
import { paddingLength } from './tokens.ts';

const MAX_NAME_LENGTH = 255;
const MAX_TARGET_LENGTH = 4095;
/** A string that is not what it should be is shown when it is no longer than this. */
const MAX_SHOWN = 32;
const NO_NAME = new Uint8Array();
const SLASH = 0x2f;
const DOT = 0x2e;

/**
 * Sees a NAR as it is read, depth first and in the order of names. A `NarWriter` is one. Names and targets may
 * be kept; parts of contents are pieces of what was pushed, and valid as long as that is.
 */
export interface NarVisitor {
  beginDirectory(): void;
  /** The next node seen is this child of the current directory; `endEntry` follows it. */
  beginEntry(name: Uint8Array): void;
  endEntry(): void;
  endDirectory(): void;
  /** Its contents follow, in parts of together `size` bytes; they start at byte `offset` of the NAR. */
  beginFile(size: number, executable: boolean, offset: number): void;
  contents(bytes: Uint8Array): void;
  endFile(): void;
  symlink(target: Uint8Array): void;
}

/**
 * Reads a NAR that is pushed in pieces of any size, and takes it only in its one canonical form: a `NarWriter`
 * makes the same bytes of what it tells. It keeps no more than a name or target at a time, whatever the lengths
 * in the NAR claim. Errors are INVALID_ARGUMENT and name the byte; after one the reader is of no more use.
 */
export class NarReader {
  readonly #visitor: NarVisitor;
  readonly #cursor = new Cursor();
  #state: State = 'magic';
  /** For each directory around the present position, the name of its last entry so far. */
  readonly #lastNames: Uint8Array[] = [];
  #executable = false;
  /** Bytes of a file that are still to come, and the padding behind it. */
  #left = 0;
  #padding = 0;
  readonly #step = () => this.#read();

  constructor(visitor: NarVisitor) {
    this.#visitor = visitor;
  }

  /** Reads on: the visitor has seen all that can be told when this returns. */
  push(bytes: Uint8Array): void {
    this.#cursor.feed(bytes, this.#step);
  }

  /** Ends the input: throws when the NAR is not complete. Gives its length. */
  end(): number {
    const size = this.#cursor.received;
    if (this.#state === 'end') return size;
    throw invalid(`invalid NAR: it ends at byte ${size}, before ${describeState(this.#state)}`);
  }

  /** Reads the next thing; false when it is not there whole. */
  #read(): boolean {
    switch (this.#state) {
      case 'name':
        return this.#name();
      case 'target':
        return this.#target();
      case 'size':
        return this.#size();
      case 'contents':
        return this.#contents();
      case 'padding':
        if (!this.#cursor.skipPadding(this.#padding)) return false;
        this.#state = 'end of file';
        return true;
      case 'end':
        if (!this.#cursor.empty) throw this.#cursor.invalid('the NAR is over, but more follows');
        return false;
      case 'after':
        this.#state = this.#lastNames.length > 0 ? 'end of entry' : 'end';
        return true;
      default:
        return this.#word(this.#state);
    }
  }

  #word(state: WordState): boolean {
    const length = this.#cursor.length();
    if (length === undefined) return false;
    for (const word of GRAMMAR[state]) {
      if (word.text.length !== length) continue;
      const found = this.#cursor.skip(word.bytes);
      if (found === undefined) return false;
      if (!found) continue;
      this.#state = word.next;
      this.#tell(state, word);
      return true;
    }
    throw this.#unexpected(state, length);
  }

  /** Tells the visitor what a word that has been read stands for. */
  #tell(state: WordState, { next }: Word): void {
    if (state === 'kind' && next === 'directory') {
      if (this.#lastNames.length === MAX_TREE_DEPTH) {
        throw this.#cursor.invalid(`more than ${MAX_TREE_DEPTH} directories in each other`);
      }
      this.#lastNames.push(NO_NAME);
      this.#visitor.beginDirectory();
    } else if (state === 'regular') {
      this.#executable = next === 'executable';
    } else if (state === 'end of file') {
      this.#visitor.endFile();
    } else if (state === 'end of entry') {
      this.#visitor.endEntry();
    } else if (state === 'directory' && next === 'after') {
      this.#lastNames.pop();
      this.#visitor.endDirectory();
    }
  }

  #name(): boolean {
    const name = this.#value(MAX_NAME_LENGTH);
    if (!name) return false;
    const dots = name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT));
    if (dots || name.includes(SLASH) || name.includes(0)) {
      throw this.#cursor.invalid(`"${printable(name)}" cannot be the name of an entry`);
    }
    const last = this.#lastNames.pop()!;
    const order = Buffer.compare(last, name);
    if (order >= 0) {
      const problem = order === 0 ? 'is there twice' : `must not come after "${printable(last)}"`;
      throw this.#cursor.invalid(`the name "${printable(name)}" ${problem}`);
    }
    this.#lastNames.push(name);
    this.#cursor.skipString(name.length);
    this.#state = 'node field';
    this.#visitor.beginEntry(name);
    return true;
  }

  #target(): boolean {
    const target = this.#value(MAX_TARGET_LENGTH);
    if (!target) return false;
    if (target.includes(0)) throw this.#cursor.invalid('the target of a symlink contains a NUL');
    this.#cursor.skipString(target.length);
    this.#state = 'end of symlink';
    this.#visitor.symlink(target);
    return true;
  }

  /** A copy of the name or target that stands here; undefined when it is not there whole. */
  #value(limit: number): Uint8Array | undefined {
    const length = this.#cursor.length();
    if (length === undefined) return undefined;
    if (length < 1 || length > limit) {
      const problem = `has ${this.#cursor.exactLength()} bytes, want 1 to ${limit}`;
      throw this.#cursor.invalid(`${describeState(this.#state)} ${problem}`);
    }
    const value = this.#cursor.string(length);
    return value && Buffer.from(value);
  }

  #size(): boolean {
    const size = this.#cursor.length();
    if (size === undefined) return false;
    if (!Number.isSafeInteger(size)) {
      throw this.#cursor.invalid(`a file of ${this.#cursor.exactLength()} bytes cannot be`);
    }
    this.#cursor.skipLength();
    this.#left = size;
    this.#padding = paddingLength(size);
    this.#state = 'contents';
    this.#visitor.beginFile(size, this.#executable, this.#cursor.offset);
    return true;
  }

  #contents(): boolean {
    const part = this.#cursor.take(this.#left);
    this.#left -= part.length;
    if (part.length > 0) this.#visitor.contents(part);
    if (this.#left > 0) return false;
    this.#state = 'padding';
    return true;
  }

  /** The error where a word is wanted and none of them stands. */
  #unexpected(state: WordState, length: number): StoreError {
    const found = length <= MAX_SHOWN ? this.#cursor.string(length) : undefined;
    // A word that is right but for its padding: then that is the error.
    if (found && GRAMMAR[state].some(({ text }) => Buffer.from(text).equals(found))) {
      this.#cursor.skipString(length);
    }
    const shown = found ? `"${printable(found)}"` : `a string of ${this.#cursor.exactLength()} bytes`;
    return this.#cursor.invalid(`want ${describeState(state)}, found ${shown}`);
  }
}
