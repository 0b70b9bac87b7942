import { damaged, messageOf, StoreError, WrongContents } from '../errors.ts';
import { DRIPPING_MS, DripWatch } from './dripping.ts';
import { Outage } from './outage.ts';
import { Replica } from './replica.ts';
import type { Patience, RetryOptions } from './retry.ts';
import { resuming, retrying } from './retry.ts';
import { isAway, mayPass } from './transient.ts';

/** What several services have in common that are all in the same places. */
export class ReplicaGroup {
  /** In the order in which they are preferred. */
  readonly members: readonly Replica[];
  readonly outage: Outage;
  #writer: number | undefined;

  constructor(members: readonly Replica[]) {
    this.members = members;
    this.outage = new Outage(members.map(({ name }) => name).join(', '));
  }

  /** The one that takes what is put: the first that was there when something was put for the first time. */
  get writer(): number {
    this.#writer ??= Math.max(
      0,
      this.members.findIndex(({ isUp }) => isUp),
    );
    return this.#writer;
  }

  /** Those to be asked, the first first. `whom`: those whose word counts more, where nobody can tell what is right. */
  order(_whom?: 'fast' | 'essential'): readonly Replica[] {
    return this.members.filter(({ isUp }) => isUp).sort((a, b) => Number(a.isSlow) - Number(b.isSlow));
  }

  /** Whether another one may be asked beside one that is slow; else that is asked once more so long later, in milliseconds. */
  waitToHedge(): number {
    return 0;
  }

  /** Ends what is under way to find out who is back. */
  close(): void {
    for (const member of this.members) member.close();
  }
}

type Work<S, T> = (service: S, signal: AbortSignal, member: Replica) => Promise<T>;

interface AskOptions {
  readonly signal?: AbortSignal | undefined;
  readonly isSomewhere?: boolean;
  /** See `ReplicaGroup.order`. */
  readonly whom?: 'fast' | 'essential' | undefined;
  /** Those that are not to be asked. */
  readonly without?: ReadonlySet<Replica> | undefined;
}

/** Asks several services that have the same: the first that is there, and the next beside it when that one is slow. */
export class Replicas<S> {
  readonly #group: ReplicaGroup;
  readonly #services: readonly S[];
  readonly #patience: Patience;

  /** `services`: one for each member. `patience` is with all of them; each by itself should have none. */
  constructor(group: ReplicaGroup, services: readonly S[], patience: Patience) {
    this.#group = group;
    this.#services = services;
    this.#patience = patience;
  }

  /**
   * The first answer; whoever else was asked is told by its signal that it is no longer wanted. That something is not
   * there (`undefined`) is an answer only when nobody is left who might have it after all: of what `isSomewhere`, because
   * something that was stored refers to it, also one that is away might.
   */
  async ask<T>(work: Work<S, T>, options: AskOptions = {}): Promise<T> {
    const answer = await retrying(this.#retries(options.signal), () => this.#round(work, options));
    this.#group.outage.answered();
    return answer;
  }

  /**
   * Hands on what `begin` gives, and has it begun again when the one that it comes from goes away: then `begin` leaves
   * out what has come.
   */
  resumed<T>(begin: () => AsyncIterable<T>, signal?: AbortSignal): AsyncGenerator<T> {
    return resuming(this.#retries(signal), begin);
  }

  /** Takes note that one is slow; whether there is another to be asked instead. */
  overtake(slow: Replica): boolean {
    slow.wasSlow();
    return this.#group.members.some((one) => one !== slow && one.isUp && !one.isSlow);
  }

  /** The service that takes what is put. */
  get writer(): S {
    return this.#services[this.#group.writer]!;
  }

  #retries(signal: AbortSignal | undefined): RetryOptions {
    const { awayMs, firstAnswerMs } = this.#patience;
    return {
      awayMs,
      // Who has never answered has probably been named wrongly.
      isTransient: (error, sinceMs) =>
        mayPass(error, sinceMs) &&
        (firstAnswerMs === undefined || this.#group.members.some((one) => one.hasAnswered)),
      onFailure: this.#group.outage.failed,
      signal,
    };
  }

  async #round<T>(work: Work<S, T>, { signal, isSomewhere = false, whom, without }: AskOptions): Promise<T> {
    const members = this.#group.order(whom).filter((member) => !without?.has(member));
    if (members.length === 0) throw this.#nobody();
    const outcome = Promise.withResolvers<T>();
    const asked: { readonly stop: AbortController; ended: boolean }[] = [];
    const failures: { readonly member: Replica; readonly error: unknown }[] = [];
    let isAbsent = false;
    let timer: NodeJS.Timeout | undefined;
    const conclude = () => {
      if (asked.some(({ ended }) => !ended)) return;
      // One that is away may have what the others do not have, or have not got right.
      const away = failures.find(({ member, error }) => member.isEssential && isAway(error))?.error;
      const isLeftOut = this.#group.members.some((one) => one.isEssential && !members.includes(one));
      const why = away ?? (isLeftOut ? this.#nobody() : undefined);
      if (isAbsent && !(isSomewhere && why)) outcome.resolve(undefined as T);
      else outcome.reject(why ?? (failures.find(({ member }) => member.isEssential) ?? failures[0]!).error);
    };
    const goOn = () => (asked.length < members.length ? begin() : conclude());
    const hedge = () => {
      const waitMs = this.#group.waitToHedge();
      if (waitMs === 0) begin();
      else timer = setTimeout(begin, waitMs);
    };
    const begin = () => {
      clearTimeout(timer);
      const member = members[asked.length];
      if (!member) return;
      const one = { stop: new AbortController(), ended: false };
      asked.push(one);
      timer = setTimeout(hedge, member.slowAfterMs);
      const until = signal ? AbortSignal.any([signal, one.stop.signal]) : one.stop.signal;
      const service = this.#services[this.#group.members.indexOf(member)]!;
      member
        .ask((signal) => work(service, signal, member), until)
        .then(
          (answer) => {
            one.ended = true;
            isAbsent ||= answer === undefined;
            if (answer === undefined) return goOn();
            // Those that were asked before have been slow.
            for (const [i, { ended }] of asked.slice(0, asked.indexOf(one)).entries())
              if (!ended) members[i]!.wasSlow();
            for (const failure of failures)
              if (failure.error instanceof WrongContents) failure.member.lied(failure.error);
            outcome.resolve(answer);
          },
          (error) => {
            one.ended = true;
            failures.push({ member, error });
            const isForAll = member.isEssential && !Replica.mayDifferElsewhere(error);
            if (signal?.aborted || isForAll) outcome.reject(error);
            else goOn();
          },
        );
    };
    begin();
    try {
      return await outcome.promise;
    } finally {
      clearTimeout(timer);
      for (const { stop, ended } of asked) if (!ended) stop.abort();
    }
  }

  /** Why nobody can be asked any more. */
  #nobody(): StoreError {
    const reasons = this.#group.members.flatMap(({ failure }) => (failure ? [messageOf(failure)] : []));
    return new StoreError('UNAVAILABLE', reasons.join('; '));
  }
}

/** A stream of contents, and who brings it. */
interface Contents {
  readonly parts: AsyncIterable<Uint8Array>;
  readonly member: Replica;
}

/**
 * Contents that several have: when the stream of one breaks, another one goes on behind what has come; and also when it only
 * drips. `begin` begins behind so many bytes. `undefined` when they are not there.
 */
export async function resumedContents<S>(
  replicas: Replicas<S>,
  offset: number,
  begin: (offset: number, signal: AbortSignal) => Promise<Contents | undefined>,
  signal?: AbortSignal,
): Promise<AsyncIterable<Uint8Array> | undefined> {
  let at = offset;
  let everyMs = DRIPPING_MS;
  const started = async () => {
    const drips = new DripWatch(everyMs);
    // Where nobody is faster, there is more and more time.
    everyMs *= 2;
    const contents = await drips.begin((dry) => begin(at, signal ? AbortSignal.any([signal, dry]) : dry));
    return contents && { drips, ...contents };
  };
  const first = await started();
  if (!first) return undefined;
  let begun: typeof first | undefined = first;
  return replicas.resumed(async function* () {
    const stream = begun ?? (await started());
    begun = undefined;
    if (!stream) throw damaged('what was being read has gone');
    for await (const part of stream.drips.watch(stream.parts, () => replicas.overtake(stream.member))) {
      at += part.length;
      yield part;
    }
  }, signal);
}
