import type { BlobContent, Chunk } from '../blob/service.ts';
import { Digest, DigestHasher } from '../digest.ts';
import type { DirectoryPutter } from '../directory/service.ts';
import { ClosureValidator } from '../directory/service.ts';
import type { Directory } from '../directory.ts';
import type { ImportTarget } from './file-system.ts';

/** Takes what an import puts, and keeps only its digests: to learn what a tree is before it is sent. */
export const digestOnly: ImportTarget = {
  blobs: {
    async put(content: BlobContent): Promise<Chunk> {
      if (content instanceof Uint8Array) return { digest: Digest.hash(content), size: content.length };
      const hasher = new DigestHasher();
      let size = 0;
      for await (const part of content) {
        hasher.update(part);
        size += part.length;
      }
      return { digest: hasher.digest(), size };
    },
    has: async () => false,
  },
  directories: {
    putMany(): DirectoryPutter {
      const validator = new ClosureValidator();
      return {
        add: async (directory: Directory) => void validator.add(directory),
        close: async () => validator.finish(),
      };
    },
  },
};
