import { DigestMap } from '../../castore/local/digest-map.ts';
import type { FilesOnDisk } from '../../castore/local/orphans.ts';
import { countChunkFiles } from '../../castore/local/orphans.ts';
import { EPOCH_LENGTH, parseChunkRow } from '../../castore/local/rows.ts';
import { scan } from '../../castore/local/scan.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import { TreeWalker } from '../../castore/local/walk.ts';
import { PathInfoTable } from '../path-info/local.ts';
import { nodeOf, SideFileTable } from '../side-files/table.ts';
import type { CheckRecord } from './check/record.ts';
import { loadCheck } from './check/record.ts';

/** Stands for more than one store path. */
const SHARED = 0xffff_ffff;
const DEFAULT_LARGEST = 10;

/** Numbers about the contents of a local store. All sizes are in bytes. */
export interface StoreStats {
  readonly paths: number;
  readonly directories: number;
  /** Contents of files, each counted once. */
  readonly blobs: number;
  readonly chunks: number;
  /** Chunks that are files of their own; the others are in the database. */
  readonly chunkFiles: number;
  /** All store paths as they are: the lengths of their NARs. */
  readonly apparentSize: number;
  /** The contents and directories as they are kept, each once. */
  readonly storedSize: number;
  readonly savedSize: number;
  /** Of the stored ones, what no store path refers to, and nothing that goes with one. */
  readonly unreferenced: { readonly objects: number; readonly size: number };
  readonly database: { readonly bytes: number; readonly used: number };
  /** Chunk files on the disk, and those of them that no row names: killed processes have left them, or they are new. */
  readonly files: { readonly all: FilesOnDisk; readonly unnamed: FilesOnDisk };
  /** The last check, and one that goes on another time. */
  readonly check: CheckRecord;
  /** The store paths that hold the most: what they alone refer to would go with them. */
  readonly largest: readonly PathSize[];
}

export interface PathSize {
  readonly path: string;
  readonly narSize: number;
  readonly ownSize: number;
}

/** Counts what is in a local store. It reads every row, and looks at every chunk file. `onPath` hears of each store path. */
export async function statsOf(
  store: LocalStore,
  largest = DEFAULT_LARGEST,
  onPath: () => void = () => {},
): Promise<StoreStats> {
  const { env } = store;
  const owners = new Owners(store);
  const paths: { path: string; narSize: number; ownSize: number }[] = [];
  for await (const info of new PathInfoTable(env).all()) {
    paths.push({ path: info.storePath.absolute(), narSize: Number(info.narSize), ownSize: 0 });
    await owners.visit(paths.length, info.node);
    onPath();
  }
  for await (const file of new SideFileTable(store).all()) await owners.visit(SHARED, nodeOf(file));
  const counts = { directories: 0, chunks: 0, chunkFiles: 0, storedSize: 0 };
  const unreferenced = { objects: 0, size: 0 };
  const count = (owner: number, size: number) => {
    counts.storedSize += size;
    if (owner === 0) {
      unreferenced.objects++;
      unreferenced.size += size;
    } else if (owner !== SHARED) paths[owner - 1]!.ownSize += size;
  };
  for await (const rows of scan(env, env.directories)) {
    counts.directories += rows.length;
    for (const { key, value } of rows) count(owners.directories.get(key), value.length - EPOCH_LENGTH);
  }
  for await (const rows of scan(env, env.chunks)) {
    counts.chunks += rows.length;
    for (const { key, value } of rows) {
      const row = parseChunkRow(value, key);
      if (row.kind === 'file') counts.chunkFiles++;
      count(owners.chunks.get(key), row.kind === 'file' ? row.size : row.bytes.length);
    }
  }
  const apparentSize = paths.reduce((sum, { narSize }) => sum + narSize, 0);
  return {
    paths: paths.length,
    ...counts,
    blobs: owners.blobs.size,
    apparentSize,
    savedSize: Math.max(0, apparentSize - counts.storedSize + unreferenced.size),
    unreferenced,
    database: env.databaseSize(),
    files: await countChunkFiles(env),
    check: loadCheck(env.dir),
    largest: paths.sort((a, b) => b.ownSize - a.ownSize || b.narSize - a.narSize).slice(0, largest),
  };
}

/** Who refers to what: the number of a store path, or `SHARED`. */
class Owners {
  readonly directories = new DigestMap();
  readonly blobs = new DigestMap();
  readonly chunks = new DigestMap();
  readonly #walker: TreeWalker;
  #owner = 0;

  constructor(store: LocalStore) {
    this.#walker = new TreeWalker(store.reader, {
      // What is shared is walked once more, so that all below it is known to be shared too.
      directory: (digest) => this.#claim(this.directories, digest),
      blob: (digest) => this.#claim(this.blobs, digest),
      chunk: (digest) => void this.#claim(this.chunks, digest),
      outboardChunk: (digest) => void this.#claim(this.chunks, digest),
      broken: () => {},
    });
  }

  visit(owner: number, root: Parameters<TreeWalker['walk']>[0]): Promise<void> {
    this.#owner = owner;
    return this.#walker.walk(root);
  }

  /** True when something has changed. */
  #claim(map: DigestMap, digest: Uint8Array): boolean {
    const before = map.get(digest);
    if (before === this.#owner || before === SHARED) return false;
    map.set(digest, before === 0 ? this.#owner : SHARED);
    return true;
  }
}
