import { SINGLE_CHUNK_LIMIT } from '../../../castore/blob/service.ts';
import { DigestMap } from '../../../castore/local/digest-map.ts';
import type { LocalReader } from '../../../castore/local/reader.ts';
import { TreeWalker } from '../../../castore/local/walk.ts';
import type { FileNode, Node } from '../../../castore/node.ts';
import { filesOf } from '../../../castore/walk.ts';
import { eachOf } from '../../../util/async/each-of.ts';
import { isDamage } from '../../../util/errors.ts';
import type { Contents } from '../../services.ts';

/** Large files whose chunks are asked for at once. */
const ASKED_AT_ONCE = 32;

/** Hears of a directory or a chunk, and of how many bytes are kept of it. The digest is lent. */
export type OnPart = (digest: Uint8Array, bytes: number) => void;

/** Tells what trees are made of, each part of a tree at least once; whether all of it is there, as far as that is known. */
export type TreeParts = (root: Node, onPart: OnPart) => Promise<boolean>;

/** What of trees is in a local store: rows are read, but no contents. */
export function partsIn(reader: LocalReader): TreeParts {
  return async (root, onPart) => {
    let isWhole = true;
    const [directories, blobs] = [new DigestMap(), new DigestMap()];
    const walker = new TreeWalker(reader, {
      directory(digest) {
        if (!directories.set(digest)) return false;
        onPart(digest, reader.directory(digest)?.length ?? 0);
        return true;
      },
      blob: (digest) => blobs.set(digest),
      chunk(digest, size) {
        const bytes = reader.chunkSize(digest);
        if (bytes === undefined && size > 0) isWhole = false;
        onPart(digest, bytes ?? 0);
      },
      outboardChunk: (digest) => onPart(digest, reader.chunkSize(digest) ?? 0),
      broken() {
        isWhole = false;
      },
    });
    await walker.walk(root);
    return isWhole;
  };
}

/** What trees are made of, by their directories and the chunk lists of large files, which are all that is asked for. */
export function partsAt({ blobs, directories }: Contents): TreeParts {
  return async (root, onPart) => {
    let isWhole = true;
    const seen = new DigestMap();
    const files = async function* (): AsyncGenerator<FileNode> {
      if (root.kind === 'file') yield root;
      if (root.kind !== 'directory') return;
      let count = 0;
      for await (const directory of directories.getRecursive(root.digest)) {
        count++;
        onPart(directory.digest.bytes, directory.bytes.length);
        for (const file of filesOf(directory)) if (seen.set(file.digest.bytes)) yield file;
      }
      if (count === 0) isWhole = false;
    };
    const part = async ({ digest, size }: FileNode, signal: AbortSignal) => {
      const chunks = size > SINGLE_CHUNK_LIMIT ? await blobs.chunks(digest, signal) : [];
      if (!chunks) isWhole = false;
      else if (chunks.length === 0) onPart(digest.bytes, Number(size));
      else for (const chunk of chunks) onPart(chunk.digest.bytes, chunk.size);
    };
    try {
      await eachOf(files(), ASKED_AT_ONCE, undefined, part);
    } catch (error) {
      if (!isDamage(error)) throw error;
      isWhole = false;
    }
    return isWhole;
  };
}
