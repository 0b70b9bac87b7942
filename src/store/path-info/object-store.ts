import { setTimeout as delay } from 'node:timers/promises';
import { FORMAT, FORMAT_KEY } from '../../castore/objects/format.ts';
import type { ListedObject, ObjectStore, StoredObject } from '../../castore/objects/object-store.ts';
import { Reliance } from '../../castore/objects/reliance.ts';
import { BASE32_ALPHABET, encodeBase32 } from '../../nix/base32.ts';
import { mapAhead, merged } from '../../util/async/iterables.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import { decodePathInfo, encodePathInfo } from './message.ts';
import type { PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';
import { united } from './united.ts';

/** Before the keys of path infos. */
export const PATH_INFO_PREFIX = 'pathinfo/v1/';
/** Bytes of a path info at the most: as much as a message may be. */
export const MAX_PATH_INFO = 64 << 20;
/** Path infos of one of the 32 listings that are fetched at once. */
const LISTED_AT_ONCE = 4;
/** Writers of the same path info at the same moment take turns; this many in a row do not happen. */
const MAX_TURNS = 50;
const TURN_MS = 20;

/**
 * Path infos among objects, in a layout of ours: `pathinfo/v1/<hash as in the store path>` is an encoded PathInfo,
 * written after all that it needs. `format` holds the version of this layout, `1`.
 */
export class ObjectStorePathInfoService implements PathInfoService {
  readonly #objects: ObjectStore;
  readonly #reliance: Reliance;
  /** Whether who asks for a path info may rely on it. */
  readonly #isWritable: boolean;

  private constructor(objects: ObjectStore, reliance: Reliance, isWritable: boolean) {
    this.#objects = objects;
    this.#reliance = reliance;
    this.#isWritable = isWritable;
  }

  /** Throws FAILED_PRECONDITION for a layout of another version. `makes` is for who would make a store where none is. */
  static async open(
    objects: ObjectStore,
    reliance = new Reliance(objects),
    { isWritable = false, makes = false } = {},
  ): Promise<ObjectStorePathInfoService> {
    const read = () => objects.get(FORMAT_KEY, 1024);
    const format = await read().catch(async (error) => {
      if (!makes || !(error instanceof StoreError) || error.code !== 'PERMISSION_DENIED') throw error;
      // Where objects may not be listed, a new place looks like one that may not be read: then it can be marked.
      await reliance.mark().catch(() => {});
      return read();
    });
    const version = format && asBuffer(format.bytes).toString('latin1').trim();
    if (version !== undefined && version !== FORMAT) {
      throw new StoreError(
        'FAILED_PRECONDITION',
        `${objects.address} has format ${JSON.stringify(version)}, this program knows ${FORMAT}`,
      );
    }
    return new ObjectStorePathInfoService(objects, reliance, isWritable);
  }

  async get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    const key = pathInfoKey(hash);
    const object = await this.#objects.get(key, MAX_PATH_INFO, signal);
    if (!object) return undefined;
    const info = this.#read(key, object);
    if (this.#isWritable && this.#reliance.isOld(object.modified)) await this.#renew(key, object, signal);
    return info;
  }

  /** Makes a path info young that somebody may rely on. While a collection is under way, that is not to be had. */
  async #renew(key: string, { bytes, tag }: StoredObject, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#reliance.requireNone(key, signal);
    } catch (error) {
      if (error instanceof StoreError && error.code === 'UNAVAILABLE') return;
      throw error;
    }
    await this.#objects.put(key, bytes, { tag }, signal);
  }

  describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    return this.get(hash, signal);
  }

  #read(key: string, { bytes }: StoredObject): PathInfo {
    let info: PathInfo;
    try {
      info = decodePathInfo(bytes);
    } catch (error) {
      throw damaged(`${this.#objects.address}: ${key} is damaged`, { cause: error });
    }
    if (pathInfoKey(info.storePath.hash) !== key) {
      throw damaged(`${this.#objects.address}: ${key} is the path info of ${info.storePath}`);
    }
    return info;
  }

  /** What is damaged is put anew. */
  #readable(key: string, object: StoredObject): PathInfo | undefined {
    try {
      return this.#read(key, object);
    } catch {
      return undefined;
    }
  }

  /** Over an equal one, the signatures of both are kept, whoever else puts it at the same time. */
  async put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    return this.#put(info, (present) => united(present, info), signal);
  }

  replace(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    return this.#put(info, () => info, signal);
  }

  /** `over` gives what is put over one that is there. */
  async #put(
    info: PathInfo,
    over: (present: PathInfo | undefined) => PathInfo,
    signal: AbortSignal | undefined,
  ): Promise<PathInfo> {
    signal?.throwIfAborted();
    await this.#reliance.mark();
    const key = pathInfoKey(info.storePath.hash);
    for (let turn = 0; turn < MAX_TURNS; turn++) {
      if (await this.#objects.put(key, encodePathInfo(info), 'absent', signal)) return info;
      const object = await this.#objects.get(key, MAX_PATH_INFO, signal);
      if (!object) continue;
      const both = over(this.#readable(key, object));
      const bytes = encodePathInfo(both);
      const isOld = this.#reliance.isOld(object.modified);
      if (asBuffer(object.bytes).equals(bytes) && !isOld) return both;
      // A collection may be about to take it.
      if (isOld) await this.#reliance.requireNone(key, signal);
      if (await this.#objects.put(key, bytes, { tag: object.tag }, signal)) return both;
      await delay(Math.random() * TURN_MS);
    }
    throw new StoreError('UNAVAILABLE', `${this.#objects.address}: ${key} changes all the time`);
  }

  /** By the 32 characters that a hash may begin with, at once. */
  async *list(signal?: AbortSignal): AsyncGenerator<PathInfo> {
    const get = async ({ key }: ListedObject) => {
      const object = await this.#objects.get(key, MAX_PATH_INFO, signal);
      return object && this.#read(key, object);
    };
    const listings = Array.from(BASE32_ALPHABET, (first) =>
      mapAhead(this.#objects.list(PATH_INFO_PREFIX + first, signal), LISTED_AT_ONCE, get),
    );
    for await (const info of merged(listings)) if (info) yield info;
  }
}

/** The key of a path info. */
export function pathInfoKey(hash: Uint8Array): string {
  return PATH_INFO_PREFIX + encodeBase32(hash);
}
