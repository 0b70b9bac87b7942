import { SlotChecker } from './check.ts';
import type { NamedChunk } from './slots.ts';
import { SLOTS, Slots, STATE, WORD } from './slots.ts';

/** How long to wait for the last chunk that is being hashed, in milliseconds; then the reader does that itself. */
const PATIENCE_MS = 20;
/** A chunk that nobody came for makes room for others after this time, in milliseconds. */
const KEPT_MS = 1000;

/** Starts the thread behind these slots, sooner or later: until then, readers do without. */
export type StartAhead = (memory: SharedArrayBuffer) => void;

/**
 * Chunks that are going to be read, hashed by another thread meanwhile: a thread that serves one reader keeps one
 * processor busy, and a quarter of what it does at a first read is hashing.
 */
export class HashedAhead {
  readonly #start: StartAhead;
  readonly #slots = new Slots();
  readonly #checker = new SlotChecker(this.#slots);
  /** What each slot was asked for, and when, in milliseconds; no key when somebody has come for it. */
  readonly #asked = Array.from({ length: SLOTS }, () => ({ key: '', at: 0 }));
  #next = 0;

  constructor(start: StartAhead) {
    this.#start = start;
    Atomics.store(this.#slots.words, WORD.LEFT, 1);
  }

  /** Asks for a chunk, by its key. False when there is no room just now. */
  expect(key: string, file: NamedChunk): boolean {
    if (Atomics.exchange(this.#slots.words, WORD.LEFT, 0) === 1) this.#start(this.#slots.memory);
    const asked = this.#asked[this.#next]!;
    const now = performance.now();
    if (asked.key !== '' && now - asked.at < KEPT_MS) return false;
    const state = this.#slots.state(this.#next);
    if (state === STATE.BUSY || !this.#slots.change(this.#next, state, STATE.FREE)) return false;
    if (!this.#slots.ask(this.#next, file)) return false;
    asked.key = key;
    asked.at = now;
    this.#next = (this.#next + 1) % SLOTS;
    return true;
  }

  /** Whether a chunk was asked for, and is what its digest says. Says so once. */
  isSound(key: string): boolean {
    const slot = this.#asked.findIndex((asked) => asked.key === key);
    if (slot < 0) return false;
    this.#asked[slot]!.key = '';
    if (this.#slots.change(slot, STATE.WANTED, STATE.FREE)) return false;
    // Rather than wait it helps: with two processors, the other thread has less than one.
    while (this.#slots.state(slot) === STATE.BUSY && this.#checker.checkOne());
    Atomics.wait(this.#slots.words, WORD.STATES + slot, STATE.BUSY, PATIENCE_MS);
    return this.#slots.state(slot) === STATE.SOUND;
  }
}
