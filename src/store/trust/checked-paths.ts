import { createHash } from 'node:crypto';
import type { Environment } from '../../castore/local/environment.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Table } from '../../castore/local/table.ts';
import { printContentAddress } from '../../nix/content-address.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import { rootText } from './verify.ts';

const CHECKED = Buffer.from([1]);

/**
 * Path infos of which a cache has noted that their contents are what they say: whose whole NAR has been computed. A key is
 * the SHA-256 of all that was found so, the root with it; signatures are no part of that, and are looked at each time. What
 * is damaged is found no more, and what is found is true for ever, whether the contents are still here or not.
 */
export class CheckedPaths {
  readonly #env: Environment;
  readonly #table: Table;

  constructor(env: Environment) {
    this.#env = env;
    this.#table = env.table('checked');
  }

  has(info: PathInfo): boolean {
    return this.#table.has(checkedKey(info));
  }

  /** As `has`, also of what others have noted since this last waited for something. */
  hasNow(info: PathInfo): boolean {
    this.#env.refresh();
    return this.has(info);
  }

  /** Durable when it resolves. `store`: that of the environment. */
  async note(info: PathInfo, { writer }: LocalStore): Promise<void> {
    await writer.row(this.#table, checkedKey(info), CHECKED);
    await writer.flush();
  }
}

/** Stands for all that a check of the whole NAR finds to be so. */
export function checkedKey(info: PathInfo): Buffer {
  const ca = info.ca ? printContentAddress(info.ca) : '';
  return createHash('sha256')
    .update(`${rootText(info)};${ca}`)
    .digest();
}
