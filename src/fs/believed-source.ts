import type { Environment } from '../castore/local/environment.ts';
import { PublicKey } from '../nix/key.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import { CheckedPaths } from '../store/trust/checked-paths.ts';
import { Judge } from '../store/trust/judge.ts';
import { PassingSource } from './passing-source.ts';
import type { Source } from './source.ts';

export interface BelievedSourceOptions {
  /** Those in which it is noted what has been checked. */
  readonly env: Environment;
  /** Printed. */
  readonly trustedKeys: readonly string[];
  /** Whether what is not believed can be asked for elsewhere; else reading it fails. */
  readonly remote: boolean;
}

/**
 * A cache of which only those path infos are there that are to be believed: others may have been kept when no keys, or other
 * ones, were given.
 */
export class BelievedSource extends PassingSource {
  readonly #judge: Judge;
  readonly #checked: CheckedPaths;
  readonly #options: BelievedSourceOptions;

  constructor(source: Source, options: BelievedSourceOptions) {
    super(source);
    this.#options = options;
    this.#judge = new Judge(options.trustedKeys.map(PublicKey.parse));
    this.#checked = new CheckedPaths(options.env);
  }

  #isBelieved(info: PathInfo): boolean {
    const verdict = this.#judge.verdict(info);
    return verdict === 'believed' || (verdict === 'unchecked' && this.#checked.has(info));
  }

  override pathInfo(hash: Uint8Array): PathInfo | undefined {
    const info = super.pathInfo(hash);
    if (!info || this.#isBelieved(info)) return info;
    if (this.#options.remote) return undefined;
    throw this.#judge.refusal(info, this.#options.env.dir);
  }

  override *pathInfosFrom(from: Uint8Array): Iterable<PathInfo> {
    for (const info of super.pathInfosFrom(from)) if (this.#isBelieved(info)) yield info;
  }
}
