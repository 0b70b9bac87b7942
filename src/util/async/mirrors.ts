import { messageOf, WrongContents } from '../errors.ts';
import { log } from '../log.ts';
import { Replica } from './replica.ts';
import { ReplicaGroup } from './replicas.ts';

/** Answers whose times are remembered; how many say enough of what is usual, and how many of who is fast. */
const REMEMBERED = 64;
const ENOUGH = 8;
const TRIED = 3;
/** One that takes longer than so large a part of its answers did is slow. */
const USUAL = 0.95;
/** Another one is asked not sooner than after so long, and not later, in milliseconds; and after this while little is known. */
const MIN_SLOW_MS = 50;
const MAX_SLOW_MS = 1000;
const UNKNOWN_MS = 500;
/** The store itself has so long to say what nobody else is believed in, in milliseconds. */
const STORE_MS = 2000;
/** Of so many questions one may be asked of two beside each other, since so many are slow; a few may be saved up. */
const QUESTIONS_A_HEDGE = 20;
const MAX_HEDGES = 3;
/** Each so many questions go first to who has not been asked for longest, who may have become faster. */
const LOOK_EACH = 32;
/** Who has had nothing for so many questions is asked only each so many. */
const IN_VAIN = 16;
/** Who is overtaken in so many such times, without an answer between, is left for a while. */
const OVERTAKEN = 3;
/** What fails in another way than by being away is left for so long, in milliseconds. */
const LEFT_MS = 10_000;
/** Weight of the newest answer. */
const NEWEST = 0.2;

/** One of several places that may have contents. Nobody relies on it. */
export class Mirror extends Replica {
  override readonly isEssential = false;
  readonly #times: number[] = [];
  #answers = 0;
  #expectedMs: number | undefined;
  #running = 0;
  #inVain = 0;
  #overtaken = 0;
  #overtakenAt = Number.NEGATIVE_INFINITY;
  #leftUntil = 0;
  #isDropped = false;
  /** When it was asked last, counted in questions to all. */
  askedAt = 0;

  override get isUp(): boolean {
    return !this.#isDropped && super.isUp && performance.now() >= this.#leftUntil;
  }

  /** Whether it is worth asking for the question of this number. */
  isPromising(question: number): boolean {
    return this.#inVain < IN_VAIN || question % IN_VAIN === 0;
  }

  /** How long an answer will take, in milliseconds. Of two that are not known, one is tried at a time. */
  get expectedMs(): number {
    if (this.#expectedMs !== undefined && this.#answers >= TRIED) return this.#expectedMs;
    return this.#running > 0 ? MAX_SLOW_MS : 0;
  }

  override get slowAfterMs(): number {
    if (this.#times.length < ENOUGH) return UNKNOWN_MS;
    const sorted = this.#times.toSorted((a, b) => a - b);
    const usual = sorted[Math.floor(sorted.length * USUAL)]!;
    return Math.min(Math.max(usual, MIN_SLOW_MS), MAX_SLOW_MS);
  }

  override async ask<T>(work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const begun = performance.now();
    const wasConnected = this.hasAnswered;
    this.#running++;
    try {
      const answer = await super.ask(work, signal);
      this.#inVain = answer === undefined ? this.#inVain + 1 : 0;
      this.#overtaken = 0;
      // Before the first, it had to be connected to.
      if (wasConnected) this.#took(performance.now() - begun);
      return answer;
    } catch (error) {
      // It was going to take even longer.
      const took = performance.now() - begun;
      if (signal.aborted && took > this.expectedMs) this.#took(took);
      throw error;
    } finally {
      this.#running--;
    }
  }

  #took(ms: number): void {
    this.#times[this.#answers++ % REMEMBERED] = ms;
    this.#expectedMs = this.#expectedMs === undefined ? ms : this.#expectedMs * (1 - NEWEST) + ms * NEWEST;
  }

  override wasSlow(): void {
    const now = performance.now();
    // Of many questions at the same time, all are overtaken for one reason.
    if (now - this.#overtakenAt < MAX_SLOW_MS) return;
    this.#overtakenAt = now;
    if (++this.#overtaken >= OVERTAKEN) this.#leftUntil = now + LEFT_MS;
  }

  /** Has it asked no more. */
  drop(): void {
    this.#isDropped = true;
  }

  override lied(error: WrongContents): void {
    if (this.#isDropped) return;
    this.drop();
    log.error('a mirror gives what is wrong; it is not asked any more', {
      mirror: this.name,
      error: messageOf(error),
    });
  }

  protected override fails(error: unknown): void {
    // Of what is wrong, `lied` tells when another one has what is right.
    if (!(error instanceof WrongContents)) super.fails(error);
    // What is lacking or damaged there says nothing of the rest.
    if (isDamage(error)) this.#inVain++;
    else this.#leftUntil = performance.now() + LEFT_MS;
  }
}

function isDamage(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'DATA_LOSS';
}

/** The store that mirrors stand beside. It waits itself for what is away, and tells whoever asks. */
export class MirroredStore extends Replica {
  override get isUp(): boolean {
    return true;
  }

  override get slowAfterMs(): number {
    return STORE_MS;
  }

  override ask<T>(work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    return work(signal);
  }
}

/** Mirrors, the fastest first, and behind them the store. */
export class MirrorGroup extends ReplicaGroup {
  readonly #mirrors: readonly Mirror[];
  readonly #store: MirroredStore;
  #questions = 0;
  #hedges = MAX_HEDGES;

  constructor(mirrors: readonly Mirror[], store: MirroredStore) {
    super([...mirrors, store]);
    this.#mirrors = mirrors;
    this.#store = store;
  }

  /** Has one of the mirrors asked no more. */
  drop(mirror: number): void {
    this.#mirrors[mirror]?.drop();
  }

  override get writer(): number {
    return this.#mirrors.length;
  }

  override order(whom: 'fast' | 'essential' = 'fast'): readonly Replica[] {
    const question = ++this.#questions;
    this.#hedges = Math.min(this.#hedges + 1 / QUESTIONS_A_HEDGE, MAX_HEDGES);
    const mirrors = this.#mirrors
      .filter((one) => one.isUp && one.isPromising(question))
      .sort((a, b) => a.expectedMs - b.expectedMs);
    if (whom === 'essential') return [this.#store, ...mirrors];
    if (question % LOOK_EACH === 0) mirrors.sort((a, b) => a.askedAt - b.askedAt);
    if (mirrors[0]) mirrors[0].askedAt = question;
    return [...mirrors, this.#store];
  }

  override waitToHedge(): number {
    if (this.#hedges < 1) return MAX_SLOW_MS;
    this.#hedges--;
    return 0;
  }
}
