import type { Digest } from '../../castore/digest.ts';
import { latin1 } from '../../util/bytes.ts';
import type { Profile, Step } from './profile.ts';
import { MAX_STEPS } from './profile.ts';

/** Parts of one file: who jumps about in it needs others the next time. */
const MAX_PARTS = 64;

/** What was used: an entry of a directory, which is named by its digest. */
export interface Used {
  readonly directory: Uint8Array;
  readonly entry: number;
  /** The directory that the entry is, all of the file, or some blocks of it. */
  readonly what: { readonly child: Uint8Array } | 'file' | { readonly start: number; readonly count: number };
}

/** Makes a profile while a tree is used, or goes on with one of an earlier time. */
export class ProfileBuilder {
  readonly #root: Digest;
  readonly #steps: Step[] = [];
  /** By digest, the numbers of the directories that have been met this time. */
  readonly #numbers = new Map<string, number>();
  /** By their places, the numbers of all. */
  readonly #directories = new Map<string, number>();
  /** Directories among the steps. */
  #count = 0;
  readonly #files = new Set<string>();
  /** By file, indexes of the steps that are parts of it. */
  readonly #parts = new Map<string, number[]>();
  /** Whether there is something new since `profile` was asked for. */
  changed = false;

  constructor(root: Digest, before?: Profile) {
    this.#root = root;
    this.#numbers.set(latin1(root.bytes), 0);
    for (const step of before?.steps ?? []) this.#push(step);
    this.changed = false;
  }

  /** What is in a directory that was not noted is left out, and so is everything when the profile is full. */
  add({ directory: digest, entry, what }: Used): void {
    const directory = this.#numbers.get(latin1(digest));
    if (directory === undefined) return;
    if (what === 'file') {
      if (!this.#files.has(placeOf({ directory, entry }))) this.#push({ kind: 'file', directory, entry });
    } else if ('child' in what) {
      const child = latin1(what.child);
      if (this.#numbers.has(child)) return;
      const place = placeOf({ directory, entry });
      if (!this.#directories.has(place)) this.#push({ kind: 'directory', directory, entry });
      const number = this.#directories.get(place);
      if (number !== undefined) this.#numbers.set(child, number);
    } else this.#part({ kind: 'part', directory, entry, ...what });
  }

  /** A part that goes on where another ends makes that longer. */
  #part(part: Step & { kind: 'part' }): void {
    const end = part.start + part.count;
    const indexes = this.#parts.get(placeOf(part)) ?? [];
    for (const index of indexes) {
      const step = this.#steps[index]!;
      if (step.kind !== 'part' || part.start < step.start || part.start > step.start + step.count) continue;
      if (end <= step.start + step.count) return;
      this.#steps[index] = { ...step, count: end - step.start };
      this.changed = true;
      return;
    }
    if (indexes.length < MAX_PARTS) this.#push(part);
  }

  #push(step: Step): void {
    if (this.#steps.length >= MAX_STEPS) return;
    const place = placeOf(step);
    if (step.kind === 'directory') this.#directories.set(place, ++this.#count);
    else if (step.kind === 'file') this.#files.add(place);
    else this.#parts.set(place, [...(this.#parts.get(place) ?? []), this.#steps.length]);
    this.#steps.push(step);
    this.changed = true;
  }

  profile(): Profile {
    this.changed = false;
    return { root: this.#root, steps: [...this.#steps] };
  }
}

function placeOf({ directory, entry }: Pick<Step, 'directory' | 'entry'>): string {
  return `${directory}/${entry}`;
}
