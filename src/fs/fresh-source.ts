import type { Groups } from '../castore/bao/group-set.ts';
import type { Chunk } from '../castore/blob/service.ts';
import { Digest } from '../castore/digest.ts';
import type { DirectoryIndex } from '../castore/directory.ts';
import type { ChunkFile } from '../castore/local/reader.ts';
import { decodePathInfo } from '../store/path-info/message.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import { asBuffer, latin1 } from '../util/bytes.ts';
import type { Source } from './source.ts';

/** Verified content that is on its way into the local store. */
export interface FreshItem {
  readonly kind: 'pathInfo' | 'directory' | 'manifest' | 'chunk';
  /** A digest, or a store path's hash. */
  readonly key: Uint8Array;
  /** As encoded; a manifest as (digest 32, size u32) for each chunk; a chunk as its row in the local store. */
  readonly bytes: Uint8Array;
  /** Of a manifest that nothing has proven: to be read by where its contents have been, and nowhere else. */
  readonly isProvenInParts?: boolean;
}

/** Message of the fetch side to a file system's thread: new items, and which of them the store has now. */
export interface FreshPayload {
  readonly items?: readonly FreshItem[];
  readonly settled?: readonly Pick<FreshItem, 'kind' | 'key'>[];
  /** What has been proven of a blob, whose manifest may not be. */
  readonly proven?: { readonly digest: Uint8Array; readonly groups: Groups };
  /** Blobs whose contents turned out to be wrong. */
  readonly revoked?: readonly Uint8Array[];
  /** A large directory that has been decoded. */
  readonly indexed?: { readonly digest: Uint8Array; readonly index: DirectoryIndex };
}

const MANIFEST_ENTRY_LENGTH = 36;

/**
 * The local store, and before it a table of what has been fetched but not yet been committed, so that no
 * reader waits for a disk. Items leave the table when the store has them; the fetch side bounds their sum.
 */
export class FreshSource implements Source {
  readonly #local: Source;
  readonly #items = new Map<string, Uint8Array>();

  constructor(local: Source) {
    this.#local = local;
  }

  accept({ items, settled }: FreshPayload): void {
    for (const { kind, key, bytes } of items ?? []) this.#items.set(itemKey(kind, key), bytes);
    for (const { kind, key } of settled ?? []) this.#items.delete(itemKey(kind, key));
  }

  #fresh(kind: FreshItem['kind'], key: Uint8Array): Uint8Array | undefined {
    return this.#items.size === 0 ? undefined : this.#items.get(itemKey(kind, key));
  }

  pathInfo(hash: Uint8Array): PathInfo | undefined {
    const fresh = this.#fresh('pathInfo', hash);
    return fresh ? decodePathInfo(fresh) : this.#local.pathInfo(hash);
  }

  pathInfosFrom(from: Uint8Array): Iterable<PathInfo> {
    return this.#local.pathInfosFrom(from);
  }

  directory(digest: Uint8Array): Uint8Array | undefined {
    return this.#fresh('directory', digest) ?? this.#local.directory(digest);
  }

  manifest(digest: Uint8Array): readonly Chunk[] | undefined {
    const fresh = this.#fresh('manifest', digest);
    return fresh ? decodeChunks(fresh) : this.#local.manifest(digest);
  }

  readChunk(
    digest: Uint8Array,
    offset: number,
    length: number,
    out: Uint8Array,
    at: number,
  ): number | undefined {
    return this.#local.readChunk(digest, offset, length, out, at, this.#fresh('chunk', digest));
  }

  chunkFile(digest: Uint8Array): ChunkFile | undefined {
    return this.#local.chunkFile(digest);
  }

  expect(digest: Uint8Array): boolean {
    return this.#local.expect(digest);
  }

  refresh(): void {
    this.#local.refresh();
  }
}

function itemKey(kind: FreshItem['kind'], key: Uint8Array): string {
  return kind[0] + latin1(key);
}

export function encodeChunks(chunks: readonly Chunk[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(chunks.length * MANIFEST_ENTRY_LENGTH);
  for (const [i, { digest, size }] of chunks.entries()) {
    bytes.set(digest.bytes, i * MANIFEST_ENTRY_LENGTH);
    bytes.writeUInt32LE(size, i * MANIFEST_ENTRY_LENGTH + 32);
  }
  return bytes;
}

function decodeChunks(bytes: Uint8Array): Chunk[] {
  const chunks: Chunk[] = [];
  for (let at = 0; at < bytes.length; at += MANIFEST_ENTRY_LENGTH) {
    chunks.push({
      digest: Digest.of(bytes.slice(at, at + 32)),
      size: asBuffer(bytes).readUInt32LE(at + 32),
    });
  }
  return chunks;
}
