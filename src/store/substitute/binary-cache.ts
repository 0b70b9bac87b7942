import { createHash } from 'node:crypto';
import { encodeBase32 } from '../../nix/base32.ts';
import { MAX_NARINFO_LENGTH, NarInfo } from '../../nix/narinfo/narinfo.ts';
import { STORE_DIR } from '../../nix/store-path.ts';
import { Limiter } from '../../util/async/limiter.ts';
import { asBuffer, collect } from '../../util/bytes.ts';
import { decompress, parseCompression } from '../../util/compression/decompress.ts';
import { damaged, messageOf, StoreError } from '../../util/errors.ts';
import type { CacheFiles } from './files.ts';
import type { Trust } from './trust.ts';
import { checkTrust } from './trust.ts';

/** The priority that Nix assumes for a cache that states none. */
const DEFAULT_PRIORITY = 50;
const MAX_INFO_LENGTH = 64 * 1024;
/** A compressed NAR of unknown length may be longer than the NAR by an eighth and this, in bytes. */
const COMPRESSION_SLACK = 1n << 20n;

/** The body of a small file may take so long, in milliseconds, however steadily it comes. */
const SMALL_MS = 10_000;
/** NARs read at once. */
const NARS_AT_ONCE = 8;

/** One binary cache. Whatever it says is checked before it is handed on. */
export class BinaryCache {
  readonly #files: CacheFiles;
  /** Whose signatures are believed. */
  readonly trust: Trust;
  /** For those who read its NARs: a cache that is slow takes up no places of others. */
  readonly places: Limiter = new Limiter(NARS_AT_ONCE);
  #priority: number | undefined;
  #info: Promise<void> | undefined;

  /** `priority`: instead of what the cache says of itself. */
  constructor(files: CacheFiles, trust: Trust, priority?: number) {
    this.#files = files;
    this.trust = trust;
    this.#priority = priority;
  }

  get address(): string {
    return this.#files.address;
  }

  /** Caches with lower numbers are preferred. Known once something has been found. */
  get priority(): number {
    return this.#priority ?? DEFAULT_PRIORITY;
  }

  /**
   * The narinfo of a store path; `undefined` when the cache has none. It is that of this path, and may be
   * trusted.
   */
  async narInfo(hash: Uint8Array, signal: AbortSignal): Promise<NarInfo | undefined> {
    this.#info ??= this.#readInfo(signal).catch((error) => {
      this.#info = undefined;
      throw error;
    });
    await this.#info;
    const file = `${encodeBase32(hash)}.narinfo`;
    const bytes = await this.#small(file, MAX_NARINFO_LENGTH, signal);
    if (!bytes) return undefined;
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
    const bytes = await this.#small('nix-cache-info', MAX_INFO_LENGTH, signal);
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
    if (/^\d{1,9}$/.test(priority)) this.#priority ??= Number(priority);
  }

  async #small(file: string, limit: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const late = new AbortController();
    const contents = await this.#files.read(file, { signal: AbortSignal.any([signal, late.signal]) });
    if (!contents) return undefined;
    const timer = setTimeout(() => {
      const seconds = SMALL_MS / 1000;
      late.abort(
        new StoreError('UNAVAILABLE', `${file} of ${this.address} has not come within ${seconds} s`),
      );
    }, SMALL_MS).unref();
    try {
      const bytes = await collect(contents, limit);
      if (!bytes) throw damaged(`${file} of ${this.address} is longer than ${limit} bytes`);
      return bytes;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * The NAR that a narinfo names, uncompressed. The file is what the narinfo says, and no more comes out of it
   * than NarSize; whether it is the right NAR is for the caller to see.
   */
  async *nar(info: NarInfo, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const compression = parseCompression(info.compression);
    const file = await this.#files.read(info.url, { size: info.fileSize, signal });
    if (!file) throw this.#lie(info, `its NAR, ${JSON.stringify(info.url.slice(0, 200))}, is not there`);
    let left = info.narSize;
    for await (const part of decompress(compression, this.#checked(file, info))) {
      left -= BigInt(part.length);
      if (left < 0n) throw this.#lie(info, `its NAR is longer than ${info.narSize} bytes`);
      yield part;
    }
  }

  async *#checked(file: AsyncIterable<Uint8Array>, info: NarInfo): AsyncGenerator<Uint8Array> {
    const { fileSize } = info;
    // Of what is not compressed, the NAR hash says it all.
    const fileHash = info.compression === 'none' ? undefined : info.fileHash;
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

  close(): Promise<void> {
    return this.#files.close();
  }
}
