import { setTimeout as delay } from 'node:timers/promises';
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

const FORMAT_KEY = 'format';
const FORMAT = '1';
/** Before the keys of path infos. */
export const PREFIX = 'pathinfo/v1/';
/** As much as a message may be. */
export const MAX_OBJECT = 64 << 20;
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
  #isMarked: boolean;

  private constructor(objects: ObjectStore, reliance: Reliance, isMarked: boolean) {
    this.#objects = objects;
    this.#reliance = reliance;
    this.#isMarked = isMarked;
  }

  /** Throws FAILED_PRECONDITION for a layout of another version. */
  static async open(
    objects: ObjectStore,
    reliance = new Reliance(objects),
  ): Promise<ObjectStorePathInfoService> {
    const format = await objects.get(FORMAT_KEY, 1024);
    const version = format && asBuffer(format.bytes).toString('latin1').trim();
    if (version !== undefined && version !== FORMAT) {
      throw new StoreError(
        'FAILED_PRECONDITION',
        `${objects.address} has format ${JSON.stringify(version)}, this program knows ${FORMAT}`,
      );
    }
    return new ObjectStorePathInfoService(objects, reliance, version !== undefined);
  }

  async get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    const key = pathInfoKey(hash);
    const object = await this.#objects.get(key, MAX_OBJECT, signal);
    return object && this.#read(key, object);
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

  /** Over an equal one, the signatures of both are kept, whoever else puts it at the same time. */
  async put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    if (!this.#isMarked) await this.#objects.put(FORMAT_KEY, Buffer.from(FORMAT), 'absent', signal);
    this.#isMarked = true;
    await this.#reliance.requireKept(signal);
    const key = pathInfoKey(info.storePath.hash);
    for (let turn = 0; turn < MAX_TURNS; turn++) {
      if (await this.#objects.put(key, encodePathInfo(info), 'absent', signal)) return info;
      const object = await this.#objects.get(key, MAX_OBJECT, signal);
      if (!object) continue;
      const present = this.#read(key, object);
      const both = united(present, info);
      const bytes = encodePathInfo(both);
      if (asBuffer(object.bytes).equals(bytes)) return both;
      if (await this.#objects.put(key, bytes, { tag: object.tag }, signal)) return both;
      await delay(Math.random() * TURN_MS);
    }
    throw new StoreError('UNAVAILABLE', `${this.#objects.address}: ${key} changes all the time`);
  }

  /** By the 32 characters that a hash may begin with, at once. */
  async *list(signal?: AbortSignal): AsyncGenerator<PathInfo> {
    const get = async ({ key }: ListedObject) => {
      const object = await this.#objects.get(key, MAX_OBJECT, signal);
      return object && this.#read(key, object);
    };
    const listings = Array.from(BASE32_ALPHABET, (first) =>
      mapAhead(this.#objects.list(PREFIX + first, signal), LISTED_AT_ONCE, get),
    );
    for await (const info of merged(listings)) if (info) yield info;
  }
}

/** The key of a path info. */
export function pathInfoKey(hash: Uint8Array): string {
  return PREFIX + encodeBase32(hash);
}
