import { StoreError } from '../../util/errors.ts';
import type { Dialect } from './methods.ts';
import { DIALECTS } from './methods.ts';

/** Finds out whether a peer knows a service under a dialect: throws UNIMPLEMENTED when it does not. */
export type Probe = (dialect: Dialect) => Promise<unknown>;

/** Finds out, once for each service of a peer, under which dialect it is spoken. */
export class DialectFinder {
  readonly #address: string;
  readonly #probes = new Map<string, Probe>();
  readonly #found = new Map<string, Promise<Dialect>>();

  /** `address`: the peer, for people. */
  constructor(address: string) {
    this.#address = address;
  }

  /** How a service is found: by a harmless call. */
  detect(service: string, probe: Probe): void {
    this.#probes.set(service, probe);
  }

  /** Throws UNIMPLEMENTED when the peer knows the service under no name. A failure is not remembered. */
  of(service: string): Promise<Dialect> {
    let dialect = this.#found.get(service);
    if (!dialect) {
      dialect = this.#find(service);
      this.#found.set(service, dialect);
      dialect.catch(() => this.#found.delete(service));
    }
    return dialect;
  }

  /** Whether it has been found out, so that `of` did not guess. */
  knows(service: string): boolean {
    return this.#found.has(service);
  }

  async #find(service: string): Promise<Dialect> {
    const probe = this.#probes.get(service);
    if (!probe) return DIALECTS[0];
    for (const dialect of DIALECTS) {
      try {
        await probe(dialect);
        return dialect;
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        if (error.code === 'DEADLINE_EXCEEDED') throw error;
        if (error.code === 'UNAVAILABLE') {
          // It may be there, and what is behind it not: the call itself will tell, and the next one looks again.
          this.#found.delete(service);
          return dialect;
        }
        if (error.code !== 'UNIMPLEMENTED') return dialect;
      }
    }
    throw new StoreError('UNIMPLEMENTED', `${this.#address} does not offer the ${service}`);
  }
}
