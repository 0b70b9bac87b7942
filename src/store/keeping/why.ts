import { foreseenCutoff } from '../../castore/local/collector.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { ObjectStore } from '../../castore/objects/object-store.ts';
import type { StorePath } from '../../nix/store-path.ts';
import { latin1 } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import { PathInfoTable } from '../path-info/local.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import { listPathInfos } from './bucket/listing.ts';
import { BucketRoots } from './bucket/roots.ts';
import type { Holder } from './holders.ts';
import { heldByName, heldByRoots, RecentUses, recently } from './holders.ts';

/** Something that holds a store path. */
export interface Hold {
  readonly holder: Holder;
  /** From the store path that it holds by itself, by references, to the one that was asked for: a shortest way. */
  readonly chain: readonly StorePath[];
}

export interface Why {
  /** Those first that last longest, and of these the shortest ways. When there is none, a collection frees the store path. */
  readonly holds: readonly Hold[];
  /** The store paths that refer to it, itself left out. */
  readonly referrers: readonly StorePath[];
}

export interface WhyOptions {
  /** As for a collection, in seconds. */
  readonly olderThan: number;
  /** Told of each store path that is looked at. */
  readonly onProgress: () => void;
}

/** Tells what holds a path of a local store against a collection. It reads all path infos. */
export async function whyLocal(
  { env }: LocalStore,
  path: StorePath,
  { olderThan, onProgress }: WhyOptions,
): Promise<Why> {
  if (env.kind !== 'store') {
    throw new StoreError(
      'FAILED_PRECONDITION',
      `${env.dir} is a cache, in which nothing is held: what was used least recently goes first`,
    );
  }
  const graph = new References();
  const uses = new RecentUses(env, foreseenCutoff(env), olderThan);
  for await (const info of new PathInfoTable(env).all()) {
    onProgress();
    graph.add(info, uses.holder(info.storePath.hash));
  }
  for (const { hash, holder } of heldByName(env)) graph.hold(hash, holder);
  return graph.why(path);
}

/** The same of a path in a bucket. */
export async function whyInBucket(
  objects: ObjectStore,
  path: StorePath,
  { olderThan, onProgress }: WhyOptions,
  signal?: AbortSignal,
): Promise<Why> {
  const graph = new References();
  for await (const { info, modified } of listPathInfos(objects, signal)) {
    onProgress();
    if (info) graph.add(info, recently('upload', (Date.now() - modified) / 1000, olderThan));
  }
  for (const { hash, holder } of heldByRoots(await new BucketRoots(objects).list(signal)))
    graph.hold(hash, holder);
  return graph.why(path);
}

/** From most to least lasting. */
const KINDS: readonly Holder['kind'][] = ['root', 'mount', 'writer', 'use', 'upload'];

/** Who refers to whom, against the arrows; all maps go by the hash. */
class References {
  readonly #paths = new Map<string, StorePath>();
  readonly #referrers = new Map<string, string[]>();
  readonly #holders = new Map<string, Holder[]>();

  add({ storePath, references }: PathInfo, holder: Holder | undefined): void {
    const key = latin1(storePath.hash);
    this.#paths.set(key, storePath);
    if (holder) this.hold(storePath.hash, holder);
    for (const { hash } of references) {
      const referred = latin1(hash);
      if (referred !== key) append(this.#referrers, referred, key);
    }
  }

  hold(hash: Uint8Array, holder: Holder): void {
    append(this.#holders, latin1(hash), holder);
  }

  why(path: StorePath): Why {
    const target = latin1(path.hash);
    // It may have gone by now.
    this.#paths.set(target, path);
    const holds: Hold[] = [];
    // Breadth first, so that the first way that leads somewhere is a shortest one: each path, and what it refers to on it.
    const ways = new Map<string, string | undefined>([[target, undefined]]);
    for (const [key] of ways) {
      for (const holder of this.#holders.get(key) ?? [])
        holds.push({ holder, chain: this.#chain(key, ways) });
      for (const referrer of this.#referrers.get(key) ?? []) if (!ways.has(referrer)) ways.set(referrer, key);
    }
    const rank = ({ holder }: Hold) => KINDS.indexOf(holder.kind);
    holds.sort((a, b) => rank(a) - rank(b) || a.chain.length - b.chain.length);
    const referrers = (this.#referrers.get(target) ?? []).map((key) => this.#paths.get(key)!);
    return { holds, referrers };
  }

  #chain(from: string, ways: ReadonlyMap<string, string | undefined>): StorePath[] {
    const chain: StorePath[] = [];
    for (let key: string | undefined = from; key !== undefined; key = ways.get(key))
      chain.push(this.#paths.get(key)!);
    return chain;
  }
}

function append<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list) list.push(item);
  else lists.set(key, [item]);
}
