import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import type { Digest } from '../../castore/digest.ts';
import { Directory } from '../../castore/directory.ts';
import { encodeBase32 } from '../../nix/base32.ts';
import type { PathInfo } from '../../store/path-info/path-info.ts';
import { findProfile } from '../../store/profile/find.ts';
import type { FoundStep } from '../../store/profile/follow.ts';
import { follow } from '../../store/profile/follow.ts';
import { ProfileTable } from '../../store/profile/table.ts';
import type { Store } from '../../store/services.ts';
import { watchArrivals } from '../../util/async/arrivals.ts';
import { eachOf } from '../../util/async/each-of.ts';
import { Limiter } from '../../util/async/limiter.ts';
import { damaged, messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { BlobFetcher } from './blobs.ts';
import { MAX_UNCOMMITTED } from './blobs.ts';
import type { DirectoryFetcher } from './directories.ts';
import type { Keeper } from './keeper.ts';

/** Store paths whose profiles are followed at once, and files of one that are asked for: enough for some calls with many. */
const PATHS_AT_ONCE = 4;
const FILES_AT_ONCE = 256;
/** Bytes that are brought of a store path for its profile. */
const MAX_BYTES = 256 << 20;
/** Store paths that have been entered, and path infos of those that have just been found. */
const MAX_ENTERED = 10_000;
const MAX_FOUND = 1000;
/** How often it is looked whether there is room again, in milliseconds. */
const ROOM_MS = 20;

export interface ReplaysOptions {
  readonly store: Pick<Store, 'bucket'>;
  readonly keeper: Keeper;
  readonly directories: DirectoryFetcher;
  readonly blobs: BlobFetcher;
}

/** Fetches what the profiles of store paths name, in that order, behind everything that somebody waits for. */
export class Replays {
  readonly #options: ReplaysOptions;
  readonly #profiles: ProfileTable;
  readonly #entered = new LRUCache<string, true>({ max: MAX_ENTERED });
  readonly #found = new LRUCache<string, PathInfo>({ max: MAX_FOUND });
  readonly #places = new Limiter(PATHS_AT_ONCE);
  readonly #closing = new AbortController();

  constructor(options: ReplaysOptions) {
    this.#options = options;
    this.#profiles = new ProfileTable(options.keeper.cache.env);
  }

  /** Takes note of a path info that has come: the cache may not have it yet. */
  found(info: PathInfo): void {
    this.#found.set(info.storePath.hashText, info);
  }

  /** Somebody looks into a store path: the first time, what will be needed of it is fetched, without anybody waiting for that. */
  entered(hash: Uint8Array): void {
    const key = encodeBase32(hash);
    if (this.#entered.has(key)) return;
    this.#entered.set(key, true);
    const info = this.#found.get(key) ?? this.#options.keeper.infos.get(hash);
    if (!info) return;
    const { signal } = this.#closing;
    // What comes is no progress for the reader in whose turn it was begun.
    watchArrivals(
      () => {},
      () => this.#places.run(() => this.replay(info, signal), signal),
    ).catch((error) => {
      if (!signal.aborted)
        log.debug('cannot fetch ahead', { path: String(info.storePath), error: messageOf(error) });
    });
  }

  /** Fetches what the profile of a store path names. False when it has none. */
  async replay(info: PathInfo, signal: AbortSignal): Promise<boolean> {
    const profile = await findProfile(this.#profiles, this.#options.store, info, signal);
    if (!profile) return false;
    let left = MAX_BYTES;
    const steps = follow(profile, (digest) => this.#directory(digest, signal));
    await eachOf(steps, FILES_AT_ONCE, signal, async (step, abort) => {
      if (step.node.kind !== 'file' || step.length === 0 || left < step.length) return;
      left -= step.length;
      await this.#file(step, abort);
    });
    return true;
  }

  async #directory(digest: Digest, signal: AbortSignal): Promise<Directory> {
    const { keeper, directories } = this.#options;
    await directories.fetch(digest, () => {}, signal, true);
    const bytes = keeper.encodedDirectory(digest.bytes);
    if (!bytes) throw damaged(`directory ${digest} has gone again`);
    return Directory.decode(bytes);
  }

  async #file({ node, offset, length }: FoundStep, signal: AbortSignal): Promise<void> {
    const { keeper, blobs } = this.#options;
    while (keeper.uncommitted >= MAX_UNCOMMITTED) await delay(ROOM_MS, undefined, { signal, ref: false });
    const blob = { digest: node.digest, size: Number(node.size) };
    await blobs.ahead(blob, { offset, length }, signal);
  }

  close(): void {
    this.#closing.abort();
  }
}
