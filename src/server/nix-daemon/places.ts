/** What is awaited of a client: its next request, or that it goes on with this one. */
export type Awaited = 'request' | 'rest';

/** A connection that holds a place. */
export interface Place {
  /** Notes what is awaited of the client from now on, if anything is. */
  await(what: Awaited | undefined): void;
  leave(): void;
}

interface Taken {
  /** Whose connection it is, as far as that can be told. */
  readonly user: number | undefined;
  readonly giveUp: () => void;
}

/**
 * The connections of a server, of which there are at most so many. One more is always taken: of the user who has the most, the
 * one gives way that has asked for nothing for the longest time; else the one that has kept us waiting the longest.
 */
export class Places {
  readonly #most: number;
  readonly #taken = new Set<Taken>();
  /** In the order in which they began to be awaited. */
  readonly #awaited = { request: new Set<Taken>(), rest: new Set<Taken>() };

  constructor(most: number) {
    this.#most = most;
  }

  /** `giveUp` ends the connection. */
  take(user: number | undefined, giveUp: () => void): Place {
    if (this.#taken.size >= this.#most) this.#makeRoom();
    const taken = { user, giveUp };
    this.#taken.add(taken);
    const forget = () => {
      for (const awaited of Object.values(this.#awaited)) awaited.delete(taken);
    };
    return {
      await: (what) => {
        forget();
        if (what && this.#taken.has(taken)) this.#awaited[what].add(taken);
      },
      leave: () => {
        forget();
        this.#taken.delete(taken);
      },
    };
  }

  #makeRoom(): void {
    const counts = new Map<number | undefined, number>();
    for (const { user } of this.#taken) counts.set(user, (counts.get(user) ?? 0) + 1);
    const most = Math.max(...counts.values());
    const { request, rest } = this.#awaited;
    // At work for all of them: the first one is as good as any.
    const candidates = [...request, ...rest, ...this.#taken];
    const found = candidates.find(({ user }) => counts.get(user) === most)!;
    for (const awaited of [request, rest]) awaited.delete(found);
    this.#taken.delete(found);
    found.giveUp();
  }
}
