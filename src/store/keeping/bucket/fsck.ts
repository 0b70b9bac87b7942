import { setTimeout as delay } from 'node:timers/promises';
import { OutboardReader } from '../../../castore/bao/reader.ts';
import { heldOutboard, MAX_OUTBOARD_LENGTH } from '../../../castore/bao/whole.ts';
import { ObjectStoreBlobService } from '../../../castore/blob/object-store.ts';
import { ServiceTreeCopier } from '../../../castore/copy/services.ts';
import { Digest, EMPTY_DIGEST } from '../../../castore/digest.ts';
import { ObjectStoreDirectoryService } from '../../../castore/directory/object-store.ts';
import { DigestMap } from '../../../castore/local/digest-map.ts';
import type { Node } from '../../../castore/node.ts';
import type { Kind, ObjectStore, OurKind } from '../../../castore/objects/object-store.ts';
import { keyOf } from '../../../castore/objects/object-store.ts';
import { eachOf } from '../../../util/async/each-of.ts';
import { latin1, toHex } from '../../../util/bytes.ts';
import { ifDamaged, isDamage, messageOf } from '../../../util/errors.ts';
import { log } from '../../../util/log.ts';
import { register } from '../../moving/import.ts';
import { pathInfoKey } from '../../path-info/object-store.ts';
import type { PathInfo } from '../../path-info/path-info.ts';
import type { Services } from '../../services.ts';
import type { CheckReport, Damage, DamagedPath } from '../check/report.ts';
import type { OnRows } from '../check/scan.ts';
import type { RepairReport } from '../fsck.ts';
import { CollectionRun } from './collection-run.ts';
import type { ListedContent } from './listing.ts';
import { contentsOf, listPathInfos } from './listing.ts';
import { References } from './references.ts';

const READ_AT_ONCE = 16;
/** Problems told of a path. */
const MAX_PROBLEMS = 3;

/**
 * Checks a bucket: every object against its digest, and that each store path has all that it needs. `rate` is how many
 * bytes of chunks it reads in a second. The key of a damage is that of its object.
 */
export async function checkBucket(
  objects: ObjectStore,
  onRows: OnRows,
  rate = Number.POSITIVE_INFINITY,
  signal?: AbortSignal,
): Promise<CheckReport> {
  const check = new BucketCheck(objects, onRows, signal);
  // First: what comes while it goes on is not all listed by then.
  const infos = await check.pathInfos();
  await check.chunks(rate);
  await check.lists();
  await check.outboards();
  return check.report(infos);
}

class BucketCheck {
  readonly #objects: ObjectStore;
  readonly #onRows: OnRows;
  readonly #signal: AbortSignal | undefined;
  readonly #blobs: ObjectStoreBlobService;
  readonly #damages = new Map<string, Damage>();
  readonly #chunks = new DigestMap();
  readonly #lists = new DigestMap();
  #count = 0;
  #bytes = 0;

  constructor(objects: ObjectStore, onRows: OnRows, signal: AbortSignal | undefined) {
    this.#objects = objects;
    this.#onRows = onRows;
    this.#signal = signal;
    this.#blobs = new ObjectStoreBlobService(objects);
  }

  async pathInfos(): Promise<PathInfo[]> {
    const infos: PathInfo[] = [];
    for await (const { key, info } of listPathInfos(this.#objects, this.#signal)) {
      this.#look('store paths');
      if (info) infos.push(info);
      else this.#note('pathinfo', key, 'it is damaged');
    }
    return infos;
  }

  async chunks(rate: number): Promise<void> {
    const begun = performance.now();
    await this.#each('chunks', async ({ key, digest, size }, abort) => {
      const problem = await problemOf(this.#blobs, Digest.of(digest), abort);
      if (problem === undefined) this.#chunks.set(digest);
      else this.#note('chunks', key, problem);
      this.#bytes += size;
      const early = (this.#bytes / rate) * 1000 - (performance.now() - begun);
      if (early > 0) await delay(early, undefined, { signal: abort });
    });
  }

  async lists(): Promise<void> {
    await this.#each('blobs', async ({ key, digest }, abort) => {
      this.#lists.set(digest);
      await this.#reading('blobs', key, () => this.#blobs.chunks(Digest.of(digest), abort));
    });
  }

  async outboards(): Promise<void> {
    await this.#each('bao', async ({ key, digest }, abort) => {
      const blob = Digest.of(digest);
      const size = await sizeOf(this.#blobs, blob, abort).catch(ifDamaged);
      const object = await this.#objects.get(key, MAX_OUTBOARD_LENGTH, abort);
      // One of a blob that is not there, or damaged itself, is of no use and does no harm.
      if (size === undefined || !object) return;
      const outboard = new OutboardReader({ digest: blob, size }, heldOutboard(object.bytes));
      await this.#reading('bao', key, () => outboard.load(0, size, abort));
    });
  }

  async report(infos: readonly PathInfo[]): Promise<CheckReport> {
    const seen = new DigestMap();
    const paths: DamagedPath[] = [];
    for (const info of infos) {
      const { storePath, node } = info;
      const problems = await this.#problemsOf(node);
      if (node.kind === 'directory') seen.set(node.digest.bytes);
      if (problems.length === 0) continue;
      paths.push({
        path: storePath.absolute(),
        hash: toHex(storePath.hash),
        problems: problems.slice(0, MAX_PROBLEMS),
      });
    }
    const directories = new ObjectStoreDirectoryService(this.#objects);
    await this.#each('dirs', async ({ key, digest }, abort) => {
      if (seen.has(digest)) return;
      await this.#reading('dirs', key, async () => {
        for await (const _ of directories.getRecursive(Digest.of(digest), abort));
      });
    });
    return {
      structure: [],
      damages: [...this.#damages.values()],
      paths,
      hidden: [],
      missing: missingOf(infos),
      objects: this.#count,
      bytes: this.#bytes,
      total: this.#count,
    };
  }

  async #problemsOf(node: Node): Promise<string[]> {
    const problems: string[] = [];
    const broken = (kind: Kind, digest: Digest, problem: string) => {
      this.#note(kind, keyOf(kind, digest), problem);
      problems.push(`${keyOf(kind, digest)}: ${problem}`);
    };
    const chunk = (digest: Digest, blob: Digest) => {
      if (this.#chunks.has(digest.bytes) || digest.equals(EMPTY_DIGEST)) return;
      const found = this.#damages.get(keyOf('chunks', digest))?.problem ?? 'it is missing';
      // A list of which a chunk is missing says of a blob that it is there.
      if (!blob.equals(digest)) this.#note('blobs', keyOf('blobs', blob), `its chunk ${digest}: ${found}`);
      problems.push(`${keyOf('chunks', digest)}: ${found}`);
    };
    const references = new References(this.#objects, (digest) => this.#lists.has(digest));
    await references.add(node, { broken, chunk }, this.#signal);
    return problems;
  }

  async #each(
    kind: OurKind,
    work: (object: ListedContent, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    await eachOf(
      contentsOf(this.#objects, kind, this.#signal),
      READ_AT_ONCE,
      this.#signal,
      (object, abort) => {
        this.#look(kind);
        return work(object, abort);
      },
    );
  }

  async #reading(kind: OurKind, key: string, read: () => Promise<unknown>): Promise<void> {
    try {
      await read();
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#note(kind, key, error.message);
    }
  }

  #look(table: string): void {
    this.#onRows(table);
    this.#count++;
  }

  #note(table: string, key: string, problem: string): void {
    if (!this.#damages.has(key)) this.#damages.set(key, { table, key, problem });
  }
}

/** Length of a blob in bytes; `undefined` when it is not there. */
async function sizeOf(
  blobs: ObjectStoreBlobService,
  digest: Digest,
  signal: AbortSignal,
): Promise<number | undefined> {
  const chunks = await blobs.chunks(digest, signal);
  // One chunk, which need not be as long as its object.
  const parts = chunks?.length === 0 ? await blobs.read(digest, { signal }) : undefined;
  let size = chunks?.reduce((sum, chunk) => sum + chunk.size, 0);
  for await (const part of parts ?? []) size = (size ?? 0) + part.length;
  return size;
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
    if (isDamage(error)) return 'it is not what its digest says';
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

/**
 * Removes objects that are damaged, and store paths that lack something, and gets them again from another store where
 * there is one; as a collection, so that nobody relies meanwhile on what goes. `services` are those of the bucket.
 */
export async function repairBucket(
  objects: ObjectStore,
  services: Services,
  onRows: OnRows,
  from?: Services,
  signal?: AbortSignal,
): Promise<Omit<RepairReport, 'rebuilt'>> {
  const found = await checkBucket(objects, onRows, undefined, signal);
  const restored: DamagedPath[] = [];
  const removed: DamagedPath[] = [];
  const missing: DamagedPath[] = [];
  const report = { found, restored, removed, missing };
  if (found.damages.length + found.paths.length + found.missing.length === 0) return report;
  await removeDamaged(objects, found, signal);
  const restore = async (path: DamagedPath) =>
    from !== undefined && (await tryToRestore(from, services, path, signal));
  for (const path of found.paths) ((await restore(path)) ? restored : removed).push(path);
  await objects.remove(
    removed.map(({ hash }) => pathInfoKey(Buffer.from(hash, 'hex'))),
    signal,
  );
  for (const path of found.missing) ((await restore(path)) ? restored : missing).push(path);
  return report;
}

async function removeDamaged(
  objects: ObjectStore,
  { damages }: CheckReport,
  signal: AbortSignal | undefined,
): Promise<void> {
  const blobs = new ObjectStoreBlobService(objects);
  const run = await CollectionRun.begin(objects, 0, signal);
  try {
    const keys: string[] = [];
    await eachOf(damages, READ_AT_ONCE, signal, async ({ table, key }, abort) => {
      // Somebody may have put it again since.
      const hex = key.slice(key.lastIndexOf('/') + 1);
      const isMended =
        table === 'chunks' &&
        (await problemOf(blobs, Digest.of(Buffer.from(hex, 'hex')), abort)) === undefined;
      if (!isMended) keys.push(key);
    });
    await run.remove(keys, signal);
  } finally {
    await run.end();
  }
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
