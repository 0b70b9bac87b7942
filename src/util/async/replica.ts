import type { Code, WrongContents } from '../errors.ts';
import { messageOf, StoreError } from '../errors.ts';
import { log } from '../log.ts';
import { isAway } from './transient.ts';

/** How soon one that is away is asked whether it is back, how often later on, and how long it has to answer; in milliseconds. */
const FIRST_PROBE_MS = 100;
const PROBE_MS = 2000;
const PROBE_TIMEOUT_MS = 5000;
/** One that takes so many times as long as usual is slow; within these limits, in milliseconds. */
const SLOW_FACTOR = 4;
const MIN_SLOW_MS = 250;
const MAX_SLOW_MS = 1000;
/** For how long one that was slow is not the first to be asked, in milliseconds. */
const AVOIDED_MS = 10_000;
/** Weight of the newest answer in the usual time. */
const NEWEST = 0.1;

/** Failures that another one has as well: they are not its own. */
const EVERYWHERE: readonly Code[] = ['INVALID_ARGUMENT', 'CANCELLED'];

/** One of several that have the same: whether it is there, and how fast it answers. */
export class Replica {
  readonly name: string;
  /** Whether it has to be asked before something is not there. */
  readonly isEssential: boolean = true;
  readonly #probe: (signal: AbortSignal) => Promise<unknown>;
  #usualMs: number | undefined;
  #slowUntil = 0;
  #timer: NodeJS.Timeout | undefined;
  #probeMs = FIRST_PROBE_MS;
  /** The failure that the log has been told of. */
  #toldOf: string | undefined;
  readonly #closing = new AbortController();
  /** Why it is away, as of its last failure. */
  failure: unknown;

  /** `probe`: a harmless request, which says by failing that it is away. */
  constructor(name: string, probe: (signal: AbortSignal) => Promise<unknown>) {
    this.name = name;
    this.#probe = probe;
  }

  static mayDifferElsewhere(error: unknown): boolean {
    return error instanceof StoreError && !EVERYWHERE.includes(error.code);
  }

  get isUp(): boolean {
    return this.#timer === undefined;
  }

  get isSlow(): boolean {
    return performance.now() < this.#slowUntil;
  }

  get hasAnswered(): boolean {
    return this.#usualMs !== undefined;
  }

  /** After so long without an answer, in milliseconds, another one should be asked. */
  get slowAfterMs(): number {
    const usual = this.#usualMs ?? MAX_SLOW_MS;
    return Math.min(Math.max(usual * SLOW_FACTOR, MIN_SLOW_MS), MAX_SLOW_MS);
  }

  /** Another one has answered that was asked later. */
  wasSlow(): void {
    this.#slowUntil = performance.now() + AVOIDED_MS;
  }

  /** Asks it. When that shows that it is away, it is not up until it has answered a probe. */
  async ask<T>(work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const begun = performance.now();
    try {
      const answer = await work(signal);
      const took = performance.now() - begun;
      this.#usualMs = this.#usualMs === undefined ? took : this.#usualMs * (1 - NEWEST) + took * NEWEST;
      return answer;
    } catch (error) {
      if (!signal.aborted && isAway(error)) this.#isAway(error);
      else if (!signal.aborted && Replica.mayDifferElsewhere(error)) this.fails(error);
      throw error;
    }
  }

  /** It has given what is wrong, where another one has given what is right. */
  lied(_error: WrongContents): void {}

  /** Takes note of a failure that is its own. */
  protected fails(error: unknown): void {
    if (this.#toldOf === messageOf(error)) return;
    this.#toldOf = messageOf(error);
    log.warn('a store fails; others are asked', { store: this.name, error: this.#toldOf });
  }

  #isAway(error: unknown): void {
    this.failure = error;
    if (!this.isUp || this.#closing.signal.aborted) return;
    log.warn('a store is away; others are asked', { store: this.name, error: messageOf(error) });
    this.#probeMs = FIRST_PROBE_MS;
    this.#askLater();
  }

  #askLater(): void {
    this.#timer = setTimeout(() => void this.#askWhetherBack(), this.#probeMs).unref();
    this.#probeMs = Math.min(this.#probeMs * 2, PROBE_MS);
  }

  async #askWhetherBack(): Promise<void> {
    try {
      const late = AbortSignal.timeout(PROBE_TIMEOUT_MS);
      await this.#probe(AbortSignal.any([late, this.#closing.signal]));
      this.#timer = undefined;
      log.info('a store is back', { store: this.name });
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      this.failure = error;
      this.#askLater();
    }
  }

  close(): void {
    this.#closing.abort();
    clearTimeout(this.#timer);
  }
}
