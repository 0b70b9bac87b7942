import { setTimeout as delay } from 'node:timers/promises';
import { ObjectStoreBlobService } from '../../../castore/blob/object-store.ts';
import { ServiceTreeCopier } from '../../../castore/copy/services.ts';
import { Digest, EMPTY_DIGEST } from '../../../castore/digest.ts';
import { DigestMap } from '../../../castore/local/digest-map.ts';
import type { Kind, ObjectStore } from '../../../castore/objects/object-store.ts';
import { keyOf } from '../../../castore/objects/object-store.ts';
import { eachOf } from '../../../util/async/each-of.ts';
import { latin1, toHex } from '../../../util/bytes.ts';
import { messageOf, StoreError } from '../../../util/errors.ts';
import { log } from '../../../util/log.ts';
import { register } from '../../moving/import.ts';
import { pathInfoKey } from '../../path-info/object-store.ts';
import type { PathInfo } from '../../path-info/path-info.ts';
import type { Services } from '../../services.ts';
import type { CheckReport, Damage, DamagedPath } from '../check/report.ts';
import type { OnRows } from '../check/scan.ts';
import { contentsOf, digestsOf, pathInfosOf } from './listing.ts';
import { References } from './references.ts';

const READ_AT_ONCE = 16;
/** Problems told of a path. */
const MAX_PROBLEMS = 3;

/** The key of a damage is that of its object. */
export type BucketReport = Omit<CheckReport, 'next'>;

/**
 * Checks a bucket: every chunk against its digest, and that each store path has all that it needs. `rate` is how many
 * bytes it reads in a second.
 */
export async function checkBucket(
  objects: ObjectStore,
  onRows: OnRows,
  rate = Number.POSITIVE_INFINITY,
  signal?: AbortSignal,
): Promise<BucketReport> {
  const damages = new Map<string, Damage>();
  const note = (table: string, key: string, problem: string) => {
    if (!damages.has(key)) damages.set(key, { table, key, problem });
  };
  const chunks = new DigestMap();
  let count = 0;
  let bytes = 0;
  const blobs = new ObjectStoreBlobService(objects);
  const begun = performance.now();
  await eachOf(contentsOf(objects, 'chunks', signal), READ_AT_ONCE, signal, async (chunk, abort) => {
    onRows('chunks');
    count++;
    const problem = await problemOf(blobs, Digest.of(chunk.digest), abort);
    if (problem === undefined) chunks.set(chunk.digest);
    else note('chunks', chunk.key, problem);
    bytes += chunk.size;
    const early = (bytes / rate) * 1000 - (performance.now() - begun);
    if (early > 0) await delay(early, undefined, { signal: abort });
  });
  const lists = await digestsOf(objects, 'blobs', signal);
  const infos: PathInfo[] = [];
  const paths: DamagedPath[] = [];
  for await (const { key, info } of pathInfosOf(objects, signal)) {
    onRows('store paths');
    count++;
    if (!info) {
      note('pathinfo', key, 'it is damaged');
      continue;
    }
    infos.push(info);
    const problems: string[] = [];
    const broken = (kind: Kind, digest: Digest, problem: string) => {
      note(kind, keyOf(kind, digest), problem);
      problems.push(`${keyOf(kind, digest)}: ${problem}`);
    };
    const chunk = (digest: Digest, blob: Digest) => {
      if (chunks.has(digest.bytes) || digest.equals(EMPTY_DIGEST)) return;
      const found = damages.get(keyOf('chunks', digest))?.problem ?? 'it is missing';
      // A list of which a chunk is missing says of a blob that it is there.
      if (!blob.equals(digest)) note('blobs', keyOf('blobs', blob), `its chunk ${digest}: ${found}`);
      problems.push(`${keyOf('chunks', digest)}: ${found}`);
    };
    await new References(objects, (digest) => lists.has(digest)).add(info.node, { broken, chunk }, signal);
    const { storePath } = info;
    if (problems.length > 0)
      paths.push({
        path: storePath.absolute(),
        hash: toHex(storePath.hash),
        problems: problems.slice(0, MAX_PROBLEMS),
      });
  }
  const found = [...damages.values()];
  return {
    structure: [],
    damages: found,
    paths,
    hidden: [],
    missing: missingOf(infos),
    objects: count,
    bytes,
    total: count,
  };
}

/** What is wrong with a chunk, if anything is. */
async function problemOf(
  blobs: ObjectStoreBlobService,
  digest: Digest,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    for await (const _ of (await blobs.read(digest, { signal })) ?? []);
    return undefined;
  } catch (error) {
    if (error instanceof StoreError && error.code === 'DATA_LOSS') return 'it is not what its digest says';
    throw error;
  }
}

/** What path infos refer to, and is not there. */
function missingOf(infos: readonly PathInfo[]): DamagedPath[] {
  const there = new Set(infos.map(({ storePath }) => latin1(storePath.hash)));
  const missing = new Map<string, DamagedPath & { problems: string[] }>();
  for (const { storePath, references } of infos) {
    for (const reference of references) {
      const hash = toHex(reference.hash);
      if (there.has(latin1(reference.hash))) continue;
      const one = missing.get(hash) ?? { path: reference.absolute(), hash, problems: [] };
      missing.set(hash, one);
      if (one.problems.length < MAX_PROBLEMS) one.problems.push(`${storePath.absolute()} refers to it`);
    }
  }
  return [...missing.values()];
}

export interface BucketRepair {
  readonly found: BucketReport;
  /** Store paths that were made whole from elsewhere, and those that were taken out of service. */
  readonly restored: readonly DamagedPath[];
  readonly removed: readonly DamagedPath[];
  /** Store paths that others refer to, and that are still not there. */
  readonly missing: readonly DamagedPath[];
}

/**
 * Removes objects that are damaged, and store paths that lack something, and gets them again from another store where
 * there is one. `services` are those of the bucket.
 */
export async function repairBucket(
  objects: ObjectStore,
  services: Services,
  onRows: OnRows,
  from?: Services,
  signal?: AbortSignal,
): Promise<BucketRepair> {
  const found = await checkBucket(objects, onRows, undefined, signal);
  await objects.remove(
    found.damages.map(({ key }) => key),
    signal,
  );
  const restored: DamagedPath[] = [];
  const removed: DamagedPath[] = [];
  const missing: DamagedPath[] = [];
  const restore = async (path: DamagedPath) =>
    from !== undefined && (await tryToRestore(from, services, path, signal));
  for (const path of found.paths) ((await restore(path)) ? restored : removed).push(path);
  await objects.remove(
    removed.map(({ hash }) => pathInfoKey(Buffer.from(hash, 'hex'))),
    signal,
  );
  for (const path of found.missing) ((await restore(path)) ? restored : missing).push(path);
  return { found, restored, removed, missing };
}

async function tryToRestore(
  from: Services,
  to: Services,
  { path, hash }: DamagedPath,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    const info = await from.pathInfos.get(Buffer.from(hash, 'hex'), signal);
    if (!info) return false;
    await new ServiceTreeCopier(from, to).copy(info.node, signal);
    await register(to, info, signal);
    return true;
  } catch (error) {
    log.warn('cannot restore', { path, error: messageOf(error) });
    return false;
  }
}
