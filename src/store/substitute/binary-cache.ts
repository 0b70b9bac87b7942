import { createHash } from 'node:crypto';
import { encodeBase32 } from '../../nix/base32.ts';
import { MAX_NARINFO_LENGTH, NarInfo } from '../../nix/narinfo/narinfo.ts';
import { STORE_DIR } from '../../nix/store-path.ts';
import { Limiter } from '../../util/async/limiter.ts';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { asBuffer } from '../../util/bytes.ts';
import { decompress, parseCompression } from '../../util/compression/decompress.ts';
import { damaged, messageOf, StoreError } from '../../util/errors.ts';
import type { CacheCastore } from './castore.ts';
import type { CacheFiles } from './files.ts';
import type { KeptNarInfos } from './kept-narinfos.ts';
import { readSmall } from './small-file.ts';
import type { Trust } from './trust.ts';
import { checkTrust } from './trust.ts';

/** The priority that Nix assumes for a cache that states none. */
const DEFAULT_PRIORITY = 50;
const MAX_INFO_LENGTH = 64 * 1024;
/** A compressed NAR of unknown length may be longer than the NAR by an eighth and this, in bytes. */
const COMPRESSION_SLACK = 1n << 20n;

/** NARs read at once. */
const NARS_AT_ONCE = 8;

export interface BinaryCacheOptions {
  readonly trust: Trust;
  /** Instead of what the cache says of itself. */
  readonly priority?: number | undefined;
  /** Where its answers are kept, if they are. */
  readonly kept?: KeptNarInfos | undefined;
  /** Where it may have castore contents. */
  readonly castore?: CacheCastore | undefined;
}

/** One binary cache. Whatever it says is checked before it is handed on. */
export class BinaryCache {
  readonly #files: CacheFiles;
  /** Whose signatures are believed. */
  readonly trust: Trust;
  /** For those who read its NARs: a cache that is slow takes up no places of others. */
  readonly places: Limiter = new Limiter(NARS_AT_ONCE);
  readonly castore: CacheCastore | undefined;
  readonly #kept: KeptNarInfos | undefined;
  readonly #priority: number | undefined;
  /** As the cache states it, now or when it was last asked. */
  #stated: number | undefined;
  readonly #infos = new SingleFlight<void>();
  #hasInfo = false;

  constructor(files: CacheFiles, { trust, priority, kept, castore }: BinaryCacheOptions) {
    this.#files = files;
    this.trust = trust;
    this.#priority = priority;
    this.#kept = kept;
    this.castore = castore;
  }

  get address(): string {
    return this.#files.address;
  }

  /** Caches with lower numbers are preferred. Known once something has been found. */
  get priority(): number {
    return this.#priority ?? this.#stated ?? DEFAULT_PRIORITY;
  }

  /**
   * The narinfo of a store path; `undefined` when the cache has none. It is that of this path, and may be
   * trusted. `mayBeKept`: what it has said some time ago will do.
   */
  async narInfo(
    hash: Uint8Array,
    signal: AbortSignal,
    { mayBeKept = false } = {},
  ): Promise<NarInfo | undefined> {
    const kept = mayBeKept ? this.#kept?.get(hash) : undefined;
    if (kept) {
      if (!this.#hasInfo) this.#stated = kept.priority;
      try {
        return kept.narInfo && this.#parse(hash, kept.narInfo);
      } catch {
        // Others are trusted by now: what it says today may be signed by them.
      }
    }
    if (!this.#hasInfo) await this.#infos.run('', (until) => this.#readInfo(until), signal);
    const narInfo = await readSmall(this.#files, narInfoFile(hash), MAX_NARINFO_LENGTH, signal);
    const info = narInfo && this.#parse(hash, narInfo);
    signal.throwIfAborted();
    this.#kept?.put(hash, { narInfo, priority: this.#stated ?? DEFAULT_PRIORITY });
    return info;
  }

  #parse(hash: Uint8Array, bytes: Uint8Array): NarInfo {
    const file = narInfoFile(hash);
    let info: NarInfo;
    try {
      info = NarInfo.parse(bytes);
    } catch (error) {
      throw damaged(`${file} of ${this.address}: ${messageOf(error)}`, { cause: error });
    }
    if (!asBuffer(info.storePath.hash).equals(hash)) {
      throw damaged(`${file} of ${this.address} is that of another path, ${info.storePath.absolute()}`);
    }
    checkTrust(info, this.trust, this.address);
    return info;
  }

  /** Looks at what the cache says of itself. */
  async #readInfo(signal: AbortSignal): Promise<void> {
    const bytes = await readSmall(this.#files, 'nix-cache-info', MAX_INFO_LENGTH, signal);
    if (!bytes) await this.#files.check();
    const values = new Map(
      [
        ...asBuffer(bytes ?? new Uint8Array())
          .toString()
          .matchAll(/^([^:\n]+):(.*)$/gm),
      ].map(([, key, value]) => [key!.trim(), value!.trim()]),
    );
    const storeDir = values.get('StoreDir') ?? STORE_DIR;
    if (storeDir !== STORE_DIR) {
      const shown = JSON.stringify(storeDir.slice(0, 200));
      throw new StoreError(
        'FAILED_PRECONDITION',
        `${this.address} is a cache of ${shown}, not of ${STORE_DIR}`,
      );
    }
    const priority = values.get('Priority') ?? '';
    if (/^\d{1,9}$/.test(priority)) this.#stated = Number(priority);
    this.#hasInfo = true;
  }

  /** Any file, as the cache has it; `undefined` when it has none. */
  async file(path: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined> {
    return this.#files.read(path, { signal });
  }

  /**
   * The NAR that a narinfo names, uncompressed. The file is what the narinfo says, and no more comes out of it
   * than NarSize; whether it is the right NAR is for the caller to see.
   */
  async *nar(info: NarInfo, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const compression = parseCompression(info.compression);
    // Of what is not compressed, that may be stale, and be no harm.
    const size = compression === 'none' && info.fileSize !== info.narSize ? undefined : info.fileSize;
    const file = await this.#files.read(info.url, { size, signal });
    if (!file) throw this.#lie(info, `its NAR, ${JSON.stringify(info.url.slice(0, 200))}, is not there`);
    let left = info.narSize;
    for await (const part of decompress(compression, this.#checked(file, info))) {
      left -= BigInt(part.length);
      if (left < 0n) throw this.#lie(info, `its NAR is longer than ${info.narSize} bytes`);
      yield part;
    }
  }

  async *#checked(file: AsyncIterable<Uint8Array>, info: NarInfo): AsyncGenerator<Uint8Array> {
    // Of what is not compressed, size and hash of the NAR say it all.
    const isPlain = info.compression === 'none';
    const fileSize = isPlain ? undefined : info.fileSize;
    const fileHash = isPlain ? undefined : info.fileHash;
    const hash = fileHash && createHash(fileHash.algorithm);
    const limit = fileSize ?? info.narSize + info.narSize / 8n + COMPRESSION_SLACK;
    let size = 0n;
    for await (const part of file) {
      size += BigInt(part.length);
      if (size > limit) throw this.#lie(info, `its file is longer than ${limit} bytes`);
      hash?.update(part);
      yield part;
    }
    if (fileSize !== undefined && size !== fileSize) {
      throw this.#lie(info, `its file has ${size} bytes, want ${fileSize}`);
    }
    if (hash && !hash.digest().equals(fileHash!.digest)) throw this.#lie(info, 'its file has another hash');
  }

  #lie({ storePath }: NarInfo, what: string): StoreError {
    return damaged(`${storePath.absolute()} of ${this.address}: ${what}`);
  }

  async close(): Promise<void> {
    await this.castore?.close();
    await this.#files.close();
  }
}

function narInfoFile(hash: Uint8Array): string {
  return `${encodeBase32(hash)}.narinfo`;
}
