import { join } from 'node:path';
import { HashingChunker } from '../../castore/blob/chunker.ts';
import type { BlobContent, Chunk } from '../../castore/blob/service.ts';
import { Digest } from '../../castore/digest.ts';
import { validatingPutter } from '../../castore/directory/service.ts';
import type { Directory } from '../../castore/directory.ts';
import type { ImportTarget } from '../../castore/import/file-system.ts';
import { importPath } from '../../castore/import/file-system.ts';
import type { Node } from '../../castore/node.ts';
import { ParallelSha256 } from '../../nix/nar/parallel-sha256.ts';
import { NarWriter } from '../../nix/nar/writer.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { PathDescription } from '../path-info/path-info.ts';

/** Where the bytes of a digest are: a part of a file. */
export interface FilePart {
  readonly file: Buffer;
  readonly offset: number;
  readonly size: number;
  /** The chunks of a whole file that has several. */
  readonly chunks: readonly Chunk[];
}

/** A tree of files, by digests. None of its contents is held. */
export interface Tree {
  readonly node: Node;
  readonly directories: ReadonlyMap<string, Directory>;
  /** By the digests of blobs and of their chunks, in hexadecimal. */
  readonly parts: ReadonlyMap<string, FilePart>;
}

/** Reads a store path once, to learn its digests. Throws DATA_LOSS when it has not the NAR hash that is told of it. */
export async function readTree(storeDir: string, info: PathDescription, signal?: AbortSignal): Promise<Tree> {
  const path = join(storeDir, String(info.storePath));
  const directories = new Map<string, Directory>();
  const lists = new Map<string, readonly Chunk[]>();
  const target: ImportTarget = {
    blobs: { put: (content) => cut(content, lists), has: async () => false },
    directories: {
      putMany: () =>
        validatingPutter(async (directory) => {
          directories.set(directory.digest.hex, directory);
        }),
    },
  };
  const sha256 = new ParallelSha256();
  try {
    const nar = new NarWriter(sha256);
    const node = await importPath(Buffer.from(path), target, { observer: nar, ...(signal && { signal }) });
    nar.finish();
    if (BigInt(nar.size) !== info.narSize || !asBuffer(await sha256.digest()).equals(info.narSha256))
      throw damaged(`${path} does not have the NAR hash that Nix tells of it`);
    const parts = new Map<string, FilePart>();
    for (const [file, { hex }, size] of filesOf(Buffer.from(path), node, directories)) {
      const chunks = lists.get(hex)!;
      parts.set(hex, { file, offset: 0, size, chunks: chunks.length > 1 ? chunks : [] });
      let offset = 0;
      for (const chunk of chunks) {
        if (!parts.has(chunk.digest.hex))
          parts.set(chunk.digest.hex, { file, offset, size: chunk.size, chunks: [] });
        offset += chunk.size;
      }
    }
    return { node, directories, parts };
  } finally {
    sha256.close();
  }
}

/** Notes the chunks of a blob, and gives its digest. */
async function cut(content: BlobContent, lists: Map<string, readonly Chunk[]>): Promise<Chunk> {
  const chunker = new HashingChunker();
  const list: Chunk[] = [];
  let size = 0;
  for await (const part of chunker.chunks(content instanceof Uint8Array ? [content] : content)) {
    list.push({ digest: Digest.hash(part), size: part.length });
    size += part.length;
  }
  const digest = chunker.digest();
  lists.set(digest.hex, list);
  return { digest, size };
}

const SLASH = Buffer.from('/');

/** The files of a tree. */
function* filesOf(
  path: Buffer,
  node: Node,
  directories: ReadonlyMap<string, Directory>,
): Generator<[path: Buffer, digest: Digest, size: number]> {
  const open: [Buffer, Node][] = [[path, node]];
  for (let next = open.pop(); next; next = open.pop()) {
    const [at, one] = next;
    if (one.kind === 'file') yield [at, one.digest, Number(one.size)];
    if (one.kind !== 'directory') continue;
    for (const [name, child] of directories.get(one.digest.hex)!.entries())
      open.push([Buffer.concat([at, SLASH, name]), child]);
  }
}
