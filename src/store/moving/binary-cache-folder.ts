import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { CopyOptions } from '../../castore/copy/copier.ts';
import { encodeBase32 } from '../../nix/base32.ts';
import { Hash } from '../../nix/hash.ts';
import { Sha256Sink } from '../../nix/nar/writer.ts';
import { NarInfo } from '../../nix/narinfo/narinfo.ts';
import { STORE_DIR } from '../../nix/store-path.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged, messageOf, reasonOf, StoreError, systemCode } from '../../util/errors.ts';
import { makeDirectory } from '../../util/system/make-directory.ts';
import { writeFailure, writeWholeFile } from '../../util/system/whole-file.ts';
import { renderNar } from '../nar/render.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import type { Services } from '../services.ts';

const INFO = `StoreDir: ${STORE_DIR}\nWantMassQuery: 1\nPriority: 40\n`;

/**
 * A folder that is a binary cache of Nix, to be written to: NARs by their hash, without compression, and
 * narinfos. Every file appears whole and on disk.
 */
export class BinaryCacheFolder {
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** Opens the cache in a folder; `create` makes one where there is none. */
  static async open(dir: string, create: boolean): Promise<BinaryCacheFolder> {
    const cache = new BinaryCacheFolder(dir);
    const info = cache.#read('nix-cache-info');
    const [, storeDir = STORE_DIR] = /^StoreDir:\s*(\S+)\s*$/m.exec(info?.toString() ?? '') ?? [];
    if (storeDir !== STORE_DIR) {
      throw new StoreError(
        'FAILED_PRECONDITION',
        `${dir} is a binary cache of ${storeDir}, not of ${STORE_DIR}`,
      );
    }
    if (create) cache.#makeFolder(join(dir, 'nar'));
    if (create && !info) await writeWholeFile(join(dir, 'nix-cache-info'), [Buffer.from(INFO)]);
    return cache;
  }

  #makeFolder(path: string): void {
    try {
      makeDirectory(path);
    } catch (error) {
      throw writeFailure(path, error);
    }
  }

  #read(name: string): Buffer | undefined {
    try {
      return readFileSync(join(this.#dir, name));
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw new StoreError(
        'FAILED_PRECONDITION',
        `cannot read ${join(this.#dir, name)}: ${reasonOf(error)}`,
        { cause: error },
      );
    }
  }

  /** Gives the cache's description of a store path, if it has one. */
  async describe(hash: Uint8Array): Promise<PathDescription | undefined> {
    const file = `${encodeBase32(hash)}.narinfo`;
    const bytes = this.#read(file);
    if (!bytes) return undefined;
    try {
      const { storePath, references, narSize, narSha256, signatures } = NarInfo.parse(bytes);
      return { storePath, references, narSize, narSha256, signatures };
    } catch (error) {
      throw damaged(`${join(this.#dir, file)}: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Writes the NAR of a path, unless it is there. Throws DATA_LOSS when it is not what the path info says. */
  async putNar(from: Services, info: PathInfo, options: CopyOptions): Promise<void> {
    const path = join(this.#dir, narName(info));
    const present = statSync(path, { throwIfNoEntry: false });
    if (present && BigInt(present.size) === info.narSize) return;
    await writeWholeFile(path, checkedNar(from, info, options));
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
    await writeWholeFile(join(this.#dir, `${info.storePath.hashText}.narinfo`), [
      Buffer.from(text.toString()),
    ]);
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
