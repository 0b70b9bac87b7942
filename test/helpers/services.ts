import { createHash } from 'node:crypto';
import { MemoryBlobService } from '../../src/castore/blob/memory.ts';
import { Digest } from '../../src/castore/digest.ts';
import { MemoryDirectoryService } from '../../src/castore/directory/memory.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import type { Node } from '../../src/castore/node.ts';
import type { NarSink } from '../../src/nix/nar/writer.ts';
import { NarWriter, Sha256Sink } from '../../src/nix/nar/writer.ts';
import { localBackend } from '../../src/store/open/backends/local.ts';
import { MemoryPathInfoService } from '../../src/store/path-info/memory.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import type { Services, Store } from '../../src/store/services.ts';
import { toHex } from '../../src/util/bytes.ts';
import type { Code } from '../../src/util/errors.ts';
import { StoreError } from '../../src/util/errors.ts';

export function memoryStore(): Store {
  return {
    blobs: new MemoryBlobService(),
    directories: new MemoryDirectoryService(),
    pathInfos: new MemoryPathInfoService(),
    close: async () => {},
  };
}

/** The local store in a directory. */
export function localStore(dir: string): Store & { local: LocalStore } {
  return localBackend(LocalStore.open(dir, 'store'));
}

/** Reads all of a blob; undefined when it is not there. */
export async function readBlob(
  { blobs }: Pick<Services, 'blobs'>,
  digest: Digest,
  offset = 0,
): Promise<Buffer | undefined> {
  const parts = await blobs.read(digest, { offset });
  return parts && Buffer.concat(await all(parts));
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** What a piece of work was refused with; fails for success and for errors without a code. */
export async function codeOf(work: Promise<unknown> | (() => unknown)): Promise<Code> {
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
  throw new Error('it was not refused');
}

/**
 * Writes the NAR of a tree out of a store, and checks everything on the way: that each directory and blob
 * is there, has the digest that names it, and the size that its parent gives.
 */
export async function renderNar(services: Services, root: Node, sink: NarSink): Promise<number> {
  const nar = new NarWriter(sink);
  const visit = async (node: Node): Promise<void> => {
    if (node.kind === 'symlink') return nar.symlink(node.target);
    if (node.kind === 'file') {
      const contents = await readBlob(services, node.digest);
      if (!contents) throw new Error(`blob ${node.digest} is missing`);
      if (!Digest.hash(contents).equals(node.digest)) throw new Error(`blob ${node.digest} is torn`);
      if (BigInt(contents.length) !== node.size) throw new Error(`blob ${node.digest} has another size`);
      nar.beginFile(contents.length, node.executable);
      nar.contents(contents);
      return nar.endFile();
    }
    const directory = await services.directories.get(node.digest);
    if (!directory) throw new Error(`directory ${node.digest} is missing`);
    if (!directory.digest.equals(node.digest)) throw new Error(`directory ${node.digest} is torn`);
    if (!directory.acceptsSize(node.size)) throw new Error(`directory ${node.digest} has another size`);
    nar.beginDirectory();
    for (const [name, child] of directory.entries()) {
      nar.beginEntry(name);
      await visit(child);
      nar.endEntry();
    }
    nar.endDirectory();
  };
  await visit(root);
  nar.finish();
  return nar.size;
}

/** Checks that a store path is complete: what the store holds gives the NAR that was registered. */
export async function checkComplete(services: Services, info: PathInfo): Promise<void> {
  const sha256 = new Sha256Sink();
  const size = await renderNar(services, info.node, sha256);
  if (BigInt(size) !== info.narSize || toHex(sha256.digest()) !== toHex(info.narSha256)) {
    throw new Error(`${info.storePath} has another NAR than was registered`);
  }
}

/** Checks every store path in a local store, and gives them, sorted. */
export async function checkLocalStore(dir: string): Promise<string[]> {
  const store = localStore(dir);
  try {
    const paths: string[] = [];
    for (const info of await all(store.pathInfos.list())) {
      await checkComplete(store, info);
      paths.push(info.storePath.absolute());
    }
    return paths.sort();
  } finally {
    await store.close();
  }
}

/** A sink that keeps the NAR. */
export class BufferSink implements NarSink {
  readonly #parts: Buffer[] = [];

  update(bytes: Uint8Array): void {
    this.#parts.push(Buffer.from(bytes));
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}
