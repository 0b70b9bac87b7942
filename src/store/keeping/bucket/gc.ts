import type { ObjectStore } from '../../../castore/objects/object-store.ts';
import { eachOf } from '../../../util/async/each-of.ts';
import { latin1 } from '../../../util/bytes.ts';
import { log } from '../../../util/log.ts';
import { PATH_INFO_PREFIX } from '../../path-info/object-store.ts';
import type { PathInfo } from '../../path-info/path-info.ts';
import { PROFILE_PREFIX } from '../../profile/objects.ts';
import { describeHolder, heldByRoots, recently } from '../holders.ts';
import { CollectionRun } from './collection-run.ts';
import type { ListedPathInfo } from './listing.ts';
import { contentsOf, digestsOf, listPathInfos } from './listing.ts';
import { References } from './references.ts';
import { BucketRoots } from './roots.ts';

/** Objects removed at once. */
const BATCH = 1000;
const ASKED_AT_ONCE = 32;

interface BucketGcOptions {
  /** Paths that were put within so many seconds stay. */
  readonly olderThan: number;
  /** Contents that were put within so many milliseconds stay, whatever refers to them: see `Reliance`. */
  readonly graceMs: number;
  readonly dryRun: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Told of each store path, and by what it is held if it is. */
  readonly onPath?: (info: PathInfo, heldBy: string | undefined) => void;
  readonly onProgress?: () => void;
}

interface BucketGcReport {
  /** Store paths that are gone, and that are left. */
  paths: number;
  kept: number;
  directories: number;
  manifests: number;
  chunks: number;
  bytes: number;
}

/**
 * Frees the store paths of a bucket that nothing holds: no root, no put of late, and no reference from one that is held;
 * path infos first, then what only they referred to. For how this is safe beside uploads, see `Reliance`. Throws
 * UNAVAILABLE when another collection is under way.
 */
export async function collectBucket(objects: ObjectStore, options: BucketGcOptions): Promise<BucketGcReport> {
  const { signal, graceMs, dryRun } = options;
  const run = dryRun ? undefined : await CollectionRun.begin(objects, graceMs, signal);
  try {
    const now = run ? run.now : Date.now;
    const { kept, gone } = await choose(objects, options, now());
    const stay = run ? await removeUnchanged(objects, gone, run, signal) : [];
    kept.push(...stay);
    const paths = gone.length - stay.length;
    if (run) await removeProfiles(objects, kept, run, graceMs, signal);
    const report = { paths, kept: kept.length, directories: 0, manifests: 0, chunks: 0, bytes: 0 };
    const lists = await digestsOf(objects, 'blobs', signal);
    const references = new References(objects, (digest) => lists.has(digest));
    let isBroken = false;
    const broken = () => {
      isBroken = true;
    };
    for (const { info } of kept) {
      options.onProgress?.();
      if (info) await references.add(info.node, { broken }, signal);
      else broken();
    }
    if (isBroken) {
      log.warn(
        'the bucket is damaged, so that nobody knows what is of no use: only path infos went; see tvix-store fsck',
      );
      return report;
    }
    // What refers goes before what is referred to.
    for (const kind of ['dirs', 'bao', 'blobs', 'chunks'] as const) {
      let keys: string[] = [];
      const remove = async () => {
        await run?.remove(keys, signal);
        keys = [];
      };
      for await (const { key, digest, size, modified } of contentsOf(objects, kind, signal)) {
        options.onProgress?.();
        if (references.isSeen(kind, digest) || now() - modified < graceMs) continue;
        if (kind !== 'bao') report[COUNTS[kind]]++;
        report.bytes += size;
        if (keys.push(key) === BATCH) await remove();
      }
      await remove();
    }
    return report;
  } finally {
    await run?.end();
  }
}

const COUNTS = { dirs: 'directories', blobs: 'manifests', chunks: 'chunks' } as const;

/** The store paths that stay, and the objects of those that go. Reports them to `onPath`. */
async function choose(
  objects: ObjectStore,
  { olderThan, onPath, onProgress, signal }: BucketGcOptions,
  now: number,
): Promise<{ kept: ListedPathInfo[]; gone: ListedPathInfo[] }> {
  const roots = await new BucketRoots(objects).list(signal);
  const all = new Map<string, ListedPathInfo & { readonly info: PathInfo }>();
  const held = new Map<string, string>();
  const queue: { key: string; heldBy: string }[] = [];
  const kept: ListedPathInfo[] = [];
  for await (const one of listPathInfos(objects, signal)) {
    onProgress?.();
    const { info } = one;
    // What a damaged one refers to cannot be known.
    if (!info) {
      kept.push(one);
      continue;
    }
    const key = latin1(info.storePath.hash);
    all.set(key, { ...one, info });
    const upload = recently('upload', (now - one.modified) / 1000, olderThan);
    if (upload) queue.push({ key, heldBy: describeHolder(upload) });
  }
  for (const { hash, holder } of heldByRoots(roots))
    queue.push({ key: latin1(hash), heldBy: describeHolder(holder) });
  for (let next = queue.pop(); next; next = queue.pop()) {
    const one = all.get(next.key);
    if (!one || held.has(next.key)) continue;
    held.set(next.key, next.heldBy);
    for (const { hash } of one.info.references)
      queue.push({ key: latin1(hash), heldBy: String(one.info.storePath) });
  }
  const gone: ListedPathInfo[] = [];
  for (const [key, one] of all) {
    const heldBy = held.get(key);
    onPath?.(one.info, heldBy);
    (heldBy === undefined ? gone : kept).push(one);
  }
  return { kept, gone };
}

/** Removes the profiles of store paths that are not there, but for young ones: their path infos may just come. */
async function removeProfiles(
  objects: ObjectStore,
  kept: readonly ListedPathInfo[],
  run: CollectionRun,
  graceMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stay = new Set(kept.map(({ key }) => PROFILE_PREFIX + key.slice(PATH_INFO_PREFIX.length)));
  let keys: string[] = [];
  for await (const { key, modified } of objects.list(PROFILE_PREFIX, signal)) {
    if (stay.has(key) || run.now() - modified < graceMs) continue;
    if (keys.push(key) < BATCH) continue;
    await run.remove(keys, signal);
    keys = [];
  }
  await run.remove(keys, signal);
}

/** Removes path infos; gives those that have been put again since they were listed, and stay. */
async function removeUnchanged(
  objects: ObjectStore,
  gone: readonly ListedPathInfo[],
  run: CollectionRun,
  signal: AbortSignal | undefined,
): Promise<ListedPathInfo[]> {
  const stay: ListedPathInfo[] = [];
  for (let next = 0; next < gone.length; next += BATCH) {
    const keys: string[] = [];
    await eachOf(gone.slice(next, next + BATCH), ASKED_AT_ONCE, signal, async (one, abort) => {
      const facts = await objects.facts(one.key, abort);
      // An answer of its own tells whole seconds.
      if (!facts || Math.floor(facts.modified / 1000) === Math.floor(one.modified / 1000)) keys.push(one.key);
      else stay.push(one);
    });
    await run.remove(keys, signal);
  }
  return stay;
}
