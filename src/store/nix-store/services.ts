import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import type { BlobService, Chunk, ReadOptions } from '../../castore/blob/service.ts';
import { Digest } from '../../castore/digest.ts';
import type { DirectoryService } from '../../castore/directory/service.ts';
import { walkClosure } from '../../castore/directory/service.ts';
import { encodeBase32 } from '../../nix/base32.ts';
import { mapAhead } from '../../util/async/iterables.ts';
import { printable } from '../../util/bytes.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import type { PathInfoService } from '../path-info/service.ts';
import type { NixClient } from './client.ts';
import type { FilePart } from './tree.ts';
import type { TreeIndex } from './tree-index.ts';

/** Store paths that are read at once to list them. */
const AT_ONCE = 2;

const readOnly = () =>
  new StoreError(
    'FAILED_PRECONDITION',
    'the store of Nix is only read here: add to it by Nix, or put into another store',
  );

/** Path infos that Nix has. The contents of one that is asked for are read once, to learn their digests. */
export class NixStorePathInfos implements PathInfoService {
  readonly #nix: NixClient;
  readonly #index: TreeIndex;

  constructor(nix: NixClient, index: TreeIndex) {
    this.#nix = nix;
    this.#index = index;
  }

  async describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathDescription | undefined> {
    signal?.throwIfAborted();
    return this.#nix.describe(encodeBase32(hash));
  }

  async get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    const info = await this.describe(hash, signal);
    return info && { ...info, node: (await this.#index.tree(info)).node };
  }

  async put(): Promise<PathInfo> {
    throw readOnly();
  }

  async *list(signal?: AbortSignal): AsyncGenerator<PathInfo> {
    const paths = await this.#nix.all();
    for await (const info of mapAhead(paths, AT_ONCE, (path) => this.get(path.hash, signal)))
      if (info) yield info;
  }
}

/** Directories of the store paths that were asked for. */
export class NixStoreDirectories implements DirectoryService {
  readonly #index: TreeIndex;

  constructor(index: TreeIndex) {
    this.#index = index;
  }

  async get(digest: Digest, signal?: AbortSignal) {
    signal?.throwIfAborted();
    return this.#index.directory(digest.hex);
  }

  getRecursive(digest: Digest, signal?: AbortSignal) {
    return walkClosure(
      digest,
      (one) => this.get(one, signal),
      (one) => damaged(`directory ${one} is missing`),
    );
  }

  async put(): Promise<void> {
    throw readOnly();
  }

  putMany(): never {
    throw readOnly();
  }

  async flush(): Promise<void> {}
}

/** Files of the store paths that were asked for, and parts of them, read from where they are. */
export class NixStoreBlobs implements BlobService {
  readonly #index: TreeIndex;

  constructor(index: TreeIndex) {
    this.#index = index;
  }

  async chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    signal?.throwIfAborted();
    return this.#index.part(digest.hex)?.chunks;
  }

  async has(digest: Digest): Promise<boolean> {
    return this.#index.part(digest.hex) !== undefined;
  }

  async read(
    digest: Digest,
    { offset = 0, signal }: ReadOptions = {},
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    signal?.throwIfAborted();
    const part = this.#index.part(digest.hex);
    return part && checked(digest, part, offset, signal);
  }

  async put(): Promise<Chunk> {
    throw readOnly();
  }

  async flush(): Promise<void> {}
}

/** The contents of a part of a file, chunk by chunk, each of them checked. */
async function* checked(
  digest: Digest,
  { file, offset, size, chunks }: FilePart,
  from: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const handle = await open(file);
  try {
    let at = 0;
    for (const chunk of chunks.length > 0 ? chunks : [{ digest, size }]) {
      const end = at + chunk.size;
      if (end > from) {
        signal?.throwIfAborted();
        const bytes = await bytesAt(handle, offset + at, chunk.size);
        if (!Digest.hash(bytes).equals(chunk.digest))
          throw damaged(`${printable(file)} has changed since it was read first`);
        yield bytes.subarray(Math.max(0, from - at));
      }
      at = end;
    }
  } finally {
    await handle.close();
  }
}

async function bytesAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  let have = 0;
  while (have < length) {
    const { bytesRead } = await handle.read(bytes, have, length - have, position + have);
    if (bytesRead === 0) break;
    have += bytesRead;
  }
  return bytes.subarray(0, have);
}
