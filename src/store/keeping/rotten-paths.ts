import type { Digest } from '../../castore/digest.ts';
import { DigestMap } from '../../castore/local/digest-map.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import { TreeWalker } from '../../castore/local/walk.ts';
import { asBuffer } from '../../util/bytes.ts';
import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { PathInfoTable } from '../path-info/local.ts';

/** Store paths that are named, and chunks that wait to be looked for. */
const MOST_NAMED = 10;
const MOST_WAITING = 100;

/** Logs the store paths that a chunk belongs to when it is found to be rotten. All trees are walked for it, beside the work. */
export function nameRottenPaths(store: LocalStore): void {
  const waiting: Digest[] = [];
  let isLooking = false;
  const look = async () => {
    isLooking = true;
    for (let digest = waiting.shift(); digest; digest = waiting.shift()) {
      const paths = await pathsWith(store, digest);
      log.error('a chunk is damaged: mend it by tvix-store fsck --repair, or by importing again', {
        chunk: digest.hex,
        paths: paths.join(' ') || 'none',
      });
    }
    isLooking = false;
  };
  store.env.rotten.onNoted = (digest) => {
    if (waiting.length < MOST_WAITING) waiting.push(digest);
    if (!isLooking)
      look().catch((error) => log.warn('cannot look for store paths', { error: messageOf(error) }));
  };
}

/** Some store paths that a chunk belongs to. */
async function pathsWith({ env, reader }: LocalStore, digest: Digest): Promise<string[]> {
  const wanted = asBuffer(digest.bytes);
  const paths: string[] = [];
  const clean = new DigestMap();
  for await (const { storePath, node } of new PathInfoTable(env).all()) {
    let isFound = false;
    const seen: Uint8Array[] = [];
    const isNew = (one: Uint8Array) => {
      if (isFound || clean.has(one)) return false;
      seen.push(Uint8Array.from(one));
      return true;
    };
    await new TreeWalker(reader, {
      directory: isNew,
      blob: isNew,
      chunk: (one) => {
        isFound ||= wanted.equals(one);
      },
      broken: () => {},
    }).walk(node);
    if (isFound) paths.push(storePath.absolute());
    else for (const one of seen) clean.set(one);
    if (paths.length >= MOST_NAMED) break;
  }
  return paths;
}
