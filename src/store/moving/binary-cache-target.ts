import type { CopyOptions } from '../../castore/copy/copier.ts';
import { encodeBase32 } from '../../nix/base32.ts';
import { Hash } from '../../nix/hash.ts';
import { Sha256Sink } from '../../nix/nar/writer.ts';
import { NarInfo } from '../../nix/narinfo/narinfo.ts';
import { STORE_DIR } from '../../nix/store-path.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged, messageOf, StoreError } from '../../util/errors.ts';
import { renderNar } from '../nar/render.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import { unitedSignatures } from '../path-info/united.ts';
import type { Services } from '../services.ts';
import type { SideFileName } from '../side-files/name.ts';
import type { SideFileContents } from '../side-files/side-files.ts';

const INFO = `StoreDir: ${STORE_DIR}\nWantMassQuery: 1\nPriority: 40\n`;

/** The files of a binary cache, to be written to. Every file appears whole. */
export interface CacheTargetFiles {
  /** For people. */
  readonly address: string;
  /** The contents of a small file; `undefined` when there is none. */
  read(name: string): Promise<Uint8Array | undefined>;
  /** Whether there is a file of this name, and of this length as far as that can be told. */
  has(name: string, length: bigint): Promise<boolean>;
  /** Writes a file of this length. `make` is called again when that has to begin anew. */
  write(name: string, length: bigint, make: () => AsyncIterable<Uint8Array>): Promise<void>;
  close(): Promise<void>;
}

/** A binary cache of Nix, to be written to: NARs by their hash, without compression, and narinfos. */
export class BinaryCacheTarget {
  readonly #files: CacheTargetFiles;

  private constructor(files: CacheTargetFiles) {
    this.#files = files;
  }

  /** Opens the cache at a place; `create` makes one where there is none. */
  static async open(files: CacheTargetFiles, create: boolean): Promise<BinaryCacheTarget> {
    const cache = new BinaryCacheTarget(files);
    const info = await files.read('nix-cache-info');
    const text = info && asBuffer(info).toString();
    const [, storeDir = STORE_DIR] = /^StoreDir:\s*(\S+)\s*$/m.exec(text ?? '') ?? [];
    if (storeDir !== STORE_DIR) {
      throw new StoreError(
        'FAILED_PRECONDITION',
        `${files.address} is a binary cache of ${storeDir}, not of ${STORE_DIR}`,
      );
    }
    if (create && !info) await cache.#write('nix-cache-info', INFO);
    return cache;
  }

  #write(name: string, text: string): Promise<void> {
    const bytes = Buffer.from(text);
    const make = async function* () {
      yield bytes;
    };
    return this.#files.write(name, BigInt(bytes.length), make);
  }

  /** Gives the cache's description of a store path, if it has one. */
  async describe(hash: Uint8Array): Promise<PathDescription | undefined> {
    const file = `${encodeBase32(hash)}.narinfo`;
    const bytes = await this.#files.read(file);
    if (!bytes) return undefined;
    try {
      const { storePath, references, narSize, narSha256, signatures } = NarInfo.parse(bytes);
      return { storePath, references, narSize, narSha256, signatures };
    } catch (error) {
      throw damaged(`${file} of ${this.#files.address}: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Adds signatures to a path that the cache has; all else that it tells of it stays. */
  async addSignatures({ storePath, signatures }: PathDescription): Promise<void> {
    const file = `${storePath.hashText}.narinfo`;
    const bytes = await this.#files.read(file);
    if (!bytes) return;
    const narInfo = NarInfo.parse(bytes);
    const all = unitedSignatures(narInfo.signatures, signatures);
    await this.#write(file, narInfo.with({ signatures: all }).toString());
  }

  /** Writes the NAR of a path, unless it is there. Throws DATA_LOSS when it is not what the path info says. */
  async putNar(from: Services, info: PathInfo, options: CopyOptions): Promise<void> {
    const name = narName(info);
    if (await this.#files.has(name, info.narSize)) return;
    await this.#files.write(name, info.narSize, () => checkedNar(from, info, options));
  }

  /** Names a path whose NAR is there. */
  async putNarInfo(info: PathInfo): Promise<void> {
    const text = NarInfo.of({
      ...info,
      url: narName(info),
      compression: 'none',
      fileHash: Hash.of('sha256', info.narSha256),
      fileSize: info.narSize,
    });
    await this.#write(`${info.storePath.hashText}.narinfo`, text.toString());
  }

  /** Writes a log or a realisation. */
  async putSideFile({ text }: SideFileName, { size, read }: SideFileContents): Promise<void> {
    await this.#files.write(text, BigInt(size), () => read(0, size, undefined));
  }

  close(): Promise<void> {
    return this.#files.close();
  }
}

function narName({ narSha256 }: PathInfo): string {
  return `nar/${encodeBase32(narSha256)}.nar`;
}

async function* checkedNar(
  from: Services,
  info: PathInfo,
  { progress, onProgress, signal }: CopyOptions,
): AsyncGenerator<Uint8Array> {
  const sha256 = new Sha256Sink();
  let size = 0;
  for await (const part of renderNar(from, info.node, { signal })) {
    signal?.throwIfAborted();
    sha256.update(part);
    size += part.length;
    if (progress) progress.bytes += part.length;
    onProgress?.();
    yield part;
  }
  if (BigInt(size) !== info.narSize || !asBuffer(sha256.digest()).equals(info.narSha256))
    throw damaged(`the store's contents of ${info.storePath} do not have the NAR hash of its path info`);
}
