import { AsyncLocalStorage } from 'node:async_hooks';
import type { EventEmitter } from 'node:events';
import { messageOf, StoreError } from '../errors.ts';
import { log } from '../log.ts';

/** Faults within this time, in milliseconds, after so many that were told with their stacks, are only counted. */
const QUIET_MS = 60_000;
const TOLD_WITH_STACK = 5;

const current = new AsyncLocalStorage<FaultDomain>();

/**
 * A part of a program whose events belong together: the connections to one peer, or one connection of a server. What
 * a dependency throws out of an event reaches nobody who could catch it. The process hears of it
 * (`containFaults`), and the domain in which it happened fails: its requests end with UNAVAILABLE, and `reset` makes
 * what they used anew.
 */
export class FaultDomain {
  readonly name: string;
  readonly #reset: (fault: Error) => void;
  readonly #running = new Set<(error: StoreError) => void>();

  /** `name` is for the log. */
  constructor(name: string, reset: (fault: Error) => void) {
    this.name = name;
    this.#reset = reset;
  }

  /** The domain of what happens now. */
  static get current(): FaultDomain | undefined {
    return current.getStore();
  }

  /** Begins something whose events are this domain's. */
  begin<T>(work: () => T): T {
    return current.run(this, work);
  }

  /** Runs a request, whose events are this domain's. Throws UNAVAILABLE when the domain fails meanwhile. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    const { promise: failed, reject } = Promise.withResolvers<never>();
    this.#running.add(reject);
    try {
      return await Promise.race([this.begin(work), failed]);
    } finally {
      this.#running.delete(reject);
    }
  }

  /** Hands on what a request of this domain streams. Throws UNAVAILABLE when the domain fails meanwhile. */
  async *stream<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
    const parts = source[Symbol.asyncIterator]();
    let failure: StoreError | undefined;
    let waiting: ((error: StoreError) => void) | undefined;
    // Also while nobody asks for the next part: what the source would throw then is only a consequence.
    const fail = (error: StoreError) => {
      failure = error;
      waiting?.(error);
    };
    this.#running.add(fail);
    try {
      for (;;) {
        const { promise: failed, reject } = Promise.withResolvers<never>();
        waiting = reject;
        const next = await Promise.race([this.begin(() => parts.next()), failed]);
        if (failure) throw failure;
        if (next.done) return;
        yield next.value;
      }
    } catch (error) {
      throw failure ?? error;
    } finally {
      this.#running.delete(fail);
      // Not waited for: what has failed may never answer.
      parts.return?.()?.catch(() => {});
    }
  }

  /** Makes what happens from here on, until this event has been handled, and what follows from it, this domain's. */
  enter(): void {
    current.enterWith(this);
  }

  /**
   * Makes this domain answerable for whatever the listeners of an emitter throw: for emitters of Node's that were made
   * outside of any domain, as the streams of an HTTP/2 server are.
   */
  own(emitter: EventEmitter): void {
    const { emit } = emitter;
    emitter.emit = (name: string | symbol, ...args: unknown[]) => {
      try {
        return emit.call(emitter, name, ...args);
      } catch (thrown) {
        contain(thrown, this);
        return true;
      }
    };
  }

  /** Ends the requests that run and makes the domain anew. */
  fail(fault: Error): void {
    const running = [...this.#running];
    this.#running.clear();
    try {
      this.#reset(fault);
    } finally {
      const error = new StoreError('UNAVAILABLE', `${this.name} failed: ${messageOf(fault)}`, {
        cause: fault,
      });
      for (const reject of running) reject(error);
    }
  }
}

/**
 * From now on nothing that is thrown out of an event ends this process: it is logged with its stack, and the domain
 * in which it happened fails. For programs that serve.
 */
export function containFaults(): void {
  process.on('uncaughtException', (thrown) => contain(thrown, FaultDomain.current));
}

let told = 0;
let quietUntil = 0;

function contain(thrown: unknown, domain: FaultDomain | undefined): void {
  const fault = thrown instanceof Error ? thrown : new Error(String(thrown));
  if (performance.now() > quietUntil) told = 0;
  quietUntil = performance.now() + QUIET_MS;
  told++;
  if (told <= TOLD_WITH_STACK) {
    log.error('a fault outside every request', { part: domain?.name, stack: fault.stack });
  } else if (told % 1000 === 0) {
    log.error('faults outside every request', { count: told, error: messageOf(fault) });
  }
  try {
    domain?.fail(fault);
  } catch (error) {
    log.error('what failed cannot be set up anew', { part: domain?.name, error: messageOf(error) });
  }
}
