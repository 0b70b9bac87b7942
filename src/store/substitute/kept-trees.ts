import type { LocalStore } from '../../castore/local/store.ts';
import type { Hold } from '../../castore/local/use-listener.ts';
import { TreeWalker } from '../../castore/local/walk.ts';
import type { Node } from '../../castore/node.ts';
import { latin1 } from '../../util/bytes.ts';

/** Trees in this machine's cache, which came as wholes and may have gone in part. */
export class KeptTrees {
  readonly #local: LocalStore;

  constructor(local: LocalStore) {
    this.#local = local;
  }

  /** Begins to hold whatever is in the cache. */
  hold(): Hold {
    return this.#local.env.useListener?.hold() ?? unlimited();
  }

  /**
   * Holds a tree of which all is here, until the function that this gives is called; `undefined` when a part has gone. All of
   * it counts as used: so it also goes as a whole.
   */
  async holdWhole(root: Node): Promise<(() => void) | undefined> {
    const { env, reader } = this.#local;
    const hold = this.hold();
    let isWhole = true;
    const walker = new TreeWalker(reader, {
      directory: (digest) => hold.add(digest),
      blob: (digest) => hold.add(digest),
      chunk: (digest) => {
        hold.add(digest);
        env.useListener?.used(digest);
        isWhole &&= env.chunks.has(digest);
      },
      broken: () => {
        isWhole = false;
      },
    });
    env.refresh();
    await walker.walk(root);
    if (isWhole) return () => hold.release();
    hold.release();
    return undefined;
  }
}

/** For a cache from which nothing is evicted: only tells what is new. */
function unlimited(): Hold {
  const seen = new Set<string>();
  return {
    add(digest) {
      const before = seen.size;
      return seen.add(latin1(digest)).size > before;
    },
    release() {},
  };
}
