import { crc32 } from 'node:zlib';
import { LRUCache } from 'lru-cache';
import { LocalDirectoryService } from '../../castore/directory/local.ts';
import type { Environment } from '../../castore/local/environment.ts';
import { scan } from '../../castore/local/scan.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Table } from '../../castore/local/table.ts';
import { asBuffer, latin1, toHex } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import { keepTree } from '../keeping/keep-tree.ts';
import { UseTable } from '../keeping/uses.ts';
import { NarIndex } from '../nar/index.ts';
import { decodePathInfo, encodePathInfo } from './message.ts';
import type { PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';
import { united } from './united.ts';

const CHECKSUM_LENGTH = 4;
/** Rows of which a service remembers what they say, in bytes: whoever goes through a closure asks again and again. */
const REMEMBERED = 4 << 20;

/** The table of path infos, by the hash of the store path: an encoded PathInfo and its CRC-32. */
export class PathInfoTable {
  readonly table: Table;
  readonly #env: Environment;

  constructor(env: Environment) {
    this.#env = env;
    this.table = env.table('pathinfo');
  }

  /** Throws DATA_LOSS for a damaged row. */
  get(hash: Uint8Array): PathInfo | undefined {
    let row = this.table.view(hash);
    if (!row) {
      this.#env.refresh();
      row = this.table.view(hash);
    }
    return row && this.read(row, hash);
  }

  /** The row is a view of the database. */
  protected read(row: Buffer, hash: Uint8Array): PathInfo {
    return parsePathInfoRow(Buffer.from(row), hash);
  }

  /** All whose hash is at least `from`, in the order of the hashes. */
  *list(from?: Uint8Array): Generator<PathInfo> {
    this.#env.refresh();
    for (const { key, value } of this.table.rows({ start: from })) yield parsePathInfoRow(value, key);
  }

  /** All of them in slices, so that others have their turn. */
  async *all(): AsyncGenerator<PathInfo> {
    for await (const rows of scan(this.#env, this.table))
      for (const { key, value } of rows) yield parsePathInfoRow(value, key);
  }

  row(info: PathInfo): Uint8Array {
    const bytes = encodePathInfo(info);
    const row = Buffer.allocUnsafe(bytes.length + CHECKSUM_LENGTH);
    row.set(bytes);
    row.writeUInt32LE(crc32(bytes), bytes.length);
    return row;
  }
}

/** One that remembers what rows say. */
class RememberingTable extends PathInfoTable {
  readonly #remembered = new LRUCache<string, { readonly row: Buffer; readonly info: PathInfo }>({
    maxSize: REMEMBERED,
    sizeCalculation: ({ row }) => row.length,
  });

  protected override read(view: Buffer, hash: Uint8Array): PathInfo {
    const key = latin1(hash);
    const remembered = this.#remembered.get(key);
    if (remembered?.row.equals(view)) return remembered.info;
    const row = Buffer.from(view);
    const info = parsePathInfoRow(row, hash);
    this.#remembered.set(key, { row, info });
    return info;
  }
}

/** Reads a row. Throws DATA_LOSS for a damaged one. */
export function parsePathInfoRow(bytes: Uint8Array, hash: Uint8Array): PathInfo {
  const row = asBuffer(bytes);
  const body = row.subarray(0, Math.max(0, row.length - CHECKSUM_LENGTH));
  if (row.length < CHECKSUM_LENGTH || crc32(body) !== row.readUInt32LE(body.length)) {
    throw damaged(`the local store's path info of ${toHex(hash)} is damaged`);
  }
  return decodePathInfo(body);
}

/** What is damaged is put anew. */
function readable(row: Uint8Array, hash: Uint8Array): PathInfo | undefined {
  try {
    return parsePathInfoRow(row, hash);
  } catch {
    return undefined;
  }
}

/** Path infos in a local store. */
export class LocalPathInfoService implements PathInfoService {
  readonly isCache: boolean;
  readonly #store: LocalStore;
  readonly #infos: PathInfoTable;
  readonly #nars: NarIndex;
  readonly #uses: UseTable;

  constructor(store: LocalStore) {
    this.#store = store;
    this.isCache = store.env.kind === 'cache';
    this.#nars = new NarIndex(store);
    this.#infos = new RememberingTable(store.env);
    this.#uses = new UseTable(store.env);
  }

  async get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    signal?.throwIfAborted();
    const info = this.#infos.get(hash);
    if (!info || this.#isNoted(hash)) return info;
    // Somebody may rely on it from now on: unless a collector has just been faster.
    const isThere = () => this.#infos.table.has(hash);
    return (await this.#store.noting(() => this.#note(hash), isThere)) ? info : undefined;
  }

  describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    return this.get(hash, signal);
  }

  async put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    const { hash } = info.storePath;
    const over = (theirs: Uint8Array) => this.#infos.row(united(readable(theirs, hash), info));
    await this.#put(info, over, signal);
    this.#store.env.refresh();
    return this.#infos.get(hash) ?? info;
  }

  async putIfWhole(info: PathInfo, signal?: AbortSignal): Promise<void> {
    const local = this.#store;
    const contents = { local, directories: new LocalDirectoryService(local) };
    if (await keepTree(contents, info.node, signal)) await this.put(info, signal);
  }

  async replace(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    await this.#put(info, undefined, signal);
    return info;
  }

  /** `unite` makes the row of what is put and of one that is there. */
  async #put(
    info: PathInfo,
    unite: ((theirs: Uint8Array) => Uint8Array) | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    signal?.throwIfAborted();
    const { writer } = this.#store;
    const { table } = this.#infos;
    const { hash } = info.storePath;
    const row = this.#infos.row(info);
    this.#store.env.refresh();
    // With what is new, its use is noted before a collector can see either.
    if (!table.has(hash)) {
      await this.#nars.put(info.narSha256, info);
      const use = this.#uses.row(writer.epoch);
      const united = (theirs: Uint8Array) => this.#uses.united(theirs, use);
      await writer.row(this.#uses.table, hash, use, united);
      await writer.row(table, hash, row, unite);
      return writer.flush();
    }
    const isThere = await this.#note(hash);
    this.#store.env.refresh();
    const theirs = table.get(hash);
    const wanted = theirs && unite ? unite(theirs) : row;
    // Writing nothing for nothing new: but what is there must be durable, and all before it.
    if (!isThere || !theirs || !asBuffer(wanted).equals(theirs)) {
      await this.#nars.put(info.narSha256, info);
      await writer.row(table, hash, row, unite);
    }
    await writer.flush();
  }

  /** Whether somebody may rely on its path info already, or nothing is promised. */
  #isNoted(hash: Uint8Array): boolean {
    if (!this.#store.isWritable) return true;
    const epoch = this.#store.writer.begunEpoch;
    return epoch !== undefined && this.#uses.isNoted(hash, epoch);
  }

  /** Notes a use before a collector may look; tells whether the path info is there. */
  async #note(hash: Uint8Array): Promise<boolean> {
    return this.#uses.noted(hash, this.#store.writer.epoch, this.#infos.table);
  }

  async *list(signal?: AbortSignal): AsyncGenerator<PathInfo> {
    for await (const info of this.#infos.all()) {
      signal?.throwIfAborted();
      yield info;
    }
  }
}
