import { SingleFlight } from '../../util/async/single-flight.ts';
import { latin1 } from '../../util/bytes.ts';
import { DigestMap } from './digest-map.ts';
import type { LocalStore } from './store.ts';
import type { Table } from './table.ts';
import { TreeWalker } from './walk.ts';

/** Directories known to be kept: beyond it all are looked at again. */
const MAX_KNOWN = 1 << 20;

/**
 * Keeps all below a directory from the collector while this process's session lives: whoever is told that a
 * directory is there may rely on the whole of it.
 */
export class TreeKeeper {
  readonly #store: LocalStore;
  /** Digests of the trees that have been kept under the session of `#epoch`. */
  #known = new DigestMap();
  #epoch = 0;
  /** Many ask for the same tree at once, and to walk it takes memory. */
  readonly #walks = new SingleFlight<void>();

  constructor(store: LocalStore) {
    this.#store = store;
  }

  async keep(digest: Uint8Array): Promise<void> {
    const { writer } = this.#store;
    if (this.#epoch !== writer.epoch || this.#known.size > MAX_KNOWN) this.#known = new DigestMap();
    this.#epoch = writer.epoch;
    const known = this.#known;
    if (!known.has(digest))
      await this.#walks.run(`${this.#epoch}/${latin1(digest)}`, () => this.#walk(digest, known));
  }

  async #walk(digest: Uint8Array, known: DigestMap): Promise<void> {
    const { env, reader, writer } = this.#store;
    const found: { table: Table; digest: Uint8Array }[] = [];
    const finder = (table: Table, skipped?: DigestMap) => {
      const seen = new DigestMap();
      return (bytes: Uint8Array) => {
        if (skipped?.has(bytes) || !seen.set(bytes)) return false;
        found.push({ table, digest: Uint8Array.from(bytes) });
        return true;
      };
    };
    const walker = new TreeWalker(reader, {
      directory: finder(env.directories, known),
      blob: finder(env.manifests),
      chunk: finder(env.chunks),
      broken: () => {},
    });
    await walker.walkFrom(digest);
    // What is referred to comes before what refers.
    await Promise.all(found.reverse().map((object) => writer.has(object.table, object.digest)));
    for (const { table, digest: kept } of found) if (table === env.directories) known.set(kept);
  }
}
