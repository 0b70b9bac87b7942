import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { importPath } from '../../src/castore/import/file-system.ts';
import { NarWriter, Sha256Sink } from '../../src/nix/nar/writer.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import type { Store } from '../../src/store/services.ts';
import { tempDir } from './temp.ts';
import type { Tree } from './trees.ts';
import { writeTree } from './trees.ts';

/** What a test wants to be told of a store path besides its contents. */
export type Told = Partial<Omit<PathInfo, 'storePath' | 'node'>>;

/** A store path of a name, always the same. */
export function storePathOf(name: string): StorePath {
  return StorePath.of(createHash('sha1').update(name).digest(), name);
}

/** Puts a tree into a store as a path of this name, with its NAR hash and whatever else is told of it. */
export async function putStorePath(
  store: Store,
  name: string,
  tree: Tree,
  told: Told = {},
): Promise<PathInfo> {
  const path = join(tempDir(), 'tree');
  mkdirSync(join(path, '..'), { recursive: true });
  writeTree(path, tree);
  const sha256 = new Sha256Sink();
  const nar = new NarWriter(sha256);
  const node = await importPath(Buffer.from(path), store, { observer: nar });
  nar.finish();
  await store.directories.flush();
  await store.blobs.flush();
  return store.pathInfos.put({
    storePath: storePathOf(name),
    node,
    references: [],
    narSize: BigInt(nar.size),
    narSha256: sha256.digest(),
    signatures: [],
    ...told,
  });
}
