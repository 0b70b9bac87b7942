import type { Digest } from '../../castore/digest.ts';
import { DigestMap } from '../../castore/local/digest-map.ts';
import { scan } from '../../castore/local/scan.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import { TreeWalker } from '../../castore/local/walk.ts';
import { toHex } from '../../util/bytes.ts';
import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { PathInfoTable, parsePathInfoRow } from '../path-info/local.ts';
import type { PathInfo } from '../path-info/path-info.ts';

/** Store paths that are named, and chunks that wait to be looked for. */
const MOST_NAMED = 10;
const MOST_WAITING = 100;

/** Logs the store paths that a chunk belongs to when it is found to be rotten. All trees are walked for it, beside the work. */
export function nameRottenPaths(store: LocalStore): void {
  let waiting: Digest[] = [];
  let isLooking = false;
  const look = async () => {
    while (waiting.length > 0) {
      const wanted = waiting;
      waiting = [];
      for (const [chunk, paths] of await pathsWith(store, wanted)) {
        log.error('a chunk is damaged: mend it by tvix-store fsck --repair, or by importing again', {
          chunk,
          paths: paths.join(' ') || 'none',
        });
      }
    }
  };
  store.env.rotten.onNoted = (digest) => {
    if (waiting.length < MOST_WAITING) waiting.push(digest);
    if (isLooking) return;
    isLooking = true;
    look()
      .catch((error) => log.warn('cannot look for store paths', { error: messageOf(error) }))
      .finally(() => {
        isLooking = false;
      });
  };
}

/** By chunk, in hexadecimal, some store paths that it belongs to. */
async function pathsWith(
  { env, reader }: LocalStore,
  chunks: readonly Digest[],
): Promise<ReadonlyMap<string, string[]>> {
  const found = new Map(chunks.map(({ hex }) => [hex, [] as string[]]));
  const clean = new DigestMap();
  for await (const rows of scan(env, new PathInfoTable(env).table)) {
    for (const { key, value } of rows) {
      const info = readable(value, key);
      if (!info) continue;
      const within = new Set<string>();
      const seen: Uint8Array[] = [];
      const isNew = (digest: Uint8Array) => {
        if (clean.has(digest)) return false;
        seen.push(Uint8Array.from(digest));
        return true;
      };
      const note = (digest: Uint8Array) => {
        const hex = toHex(digest);
        if (found.has(hex)) within.add(hex);
      };
      await new TreeWalker(reader, {
        directory: isNew,
        blob: (digest) => {
          note(digest);
          return isNew(digest);
        },
        chunk: note,
        broken: () => {},
      }).walk(info.node);
      for (const hex of within) {
        const paths = found.get(hex)!;
        if (paths.length < MOST_NAMED) paths.push(info.storePath.absolute());
      }
      if (within.size === 0) for (const digest of seen) clean.set(digest);
    }
  }
  return found;
}

/** What is wrong with another row is for others to find. */
function readable(row: Uint8Array, key: Uint8Array): PathInfo | undefined {
  try {
    return parsePathInfoRow(row, key);
  } catch {
    return undefined;
  }
}
