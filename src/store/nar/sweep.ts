import { DigestMap } from '../../castore/local/digest-map.ts';
import { rowEpoch } from '../../castore/local/rows.ts';
import { scan } from '../../castore/local/scan.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import { asBuffer } from '../../util/bytes.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import { NarIndex, parseNarRow } from './index.ts';

/**
 * Takes NARs out of the index whose contents a collection is about to delete: those of no path info, unless
 * their root carries the cutoff's epoch or a later one: then somebody has just put it, and a path info may come.
 */
export class NarSweep {
  readonly #store: LocalStore;
  readonly #cutoff: number;
  readonly #kept = new DigestMap();

  constructor(store: LocalStore, cutoff: number) {
    this.#store = store;
    this.#cutoff = cutoff;
  }

  keep({ narSha256 }: PathInfo): void {
    this.#kept.set(narSha256);
  }

  async run(): Promise<void> {
    const { env } = this.#store;
    const { table } = new NarIndex(this.#store);
    for await (const rows of scan(env, table)) {
      const dead = rows.filter(({ key, value }) => !this.#kept.has(key) && !this.#isYoung(value, key));
      if (dead.length === 0) continue;
      env.transaction(() => {
        for (const { key, value } of dead) if (!this.#isYoung(value, key)) table.removeSync(key);
      });
    }
  }

  /** A damaged row is left for others to find. */
  #isYoung(bytes: Uint8Array, key: Uint8Array): boolean {
    const { directories, manifests, chunks } = this.#store.env;
    try {
      const { node } = parseNarRow(bytes, key);
      if (node.kind === 'symlink') return true;
      const digest = asBuffer(node.digest.bytes);
      const row =
        node.kind === 'directory' ? directories.get(digest) : (manifests.get(digest) ?? chunks.get(digest));
      return row !== undefined && rowEpoch(row) >= this.#cutoff;
    } catch {
      return true;
    }
  }
}
