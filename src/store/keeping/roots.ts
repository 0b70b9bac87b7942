import type { Environment } from '../../castore/local/environment.ts';
import { sealedBody, sealedRow } from '../../castore/local/rows.ts';
import type { Table } from '../../castore/local/table.ts';
import type { LocalWriter } from '../../castore/local/writer.ts';
import { STORE_DIR, StorePath } from '../../nix/store-path.ts';
import { damaged, invalid, StoreError } from '../../util/errors.ts';
import { PathInfoTable } from '../path-info/local.ts';
import { now, UseTable } from './uses.ts';

/** Keys of LMDB have up to 1978 bytes; names are for people. */
const MAX_NAME_LENGTH = 255;
const EXPIRY_LENGTH = 8;

/** A name that holds a store path, and all that it refers to, against the collector. */
export interface Root {
  readonly name: string;
  readonly storePath: StorePath;
  /** In seconds since 1970; from then on the root holds nothing. */
  readonly expires?: number;
}

/** The roots of a local store: by name, epoch u32 (unused) | expiry f64 | store path | crc u32. */
export class RootTable {
  readonly #env: Environment;
  readonly #table: Table;

  constructor(env: Environment) {
    this.#env = env;
    this.#table = env.table('root');
  }

  /**
   * Adds a root, or points the one of this name elsewhere; `ttl` in seconds. Throws NOT_FOUND when the store
   * path is not there. A collection that is under way respects it.
   */
  add(name: string, storePath: StorePath, ttl?: number): void {
    checkRootName(name);
    const infos = new PathInfoTable(this.#env);
    const uses = new UseTable(this.#env);
    const row = rootRow(storePath, ttl);
    this.#env.transaction(() => {
      if (!infos.table.has(storePath.hash)) {
        throw new StoreError('NOT_FOUND', `${STORE_DIR}/${storePath} is not in the store`);
      }
      // A collector that has read the roots before looks at this before it deletes.
      uses.note(storePath.hash, this.#env.epochNow());
      this.#table.putSync(Buffer.from(name), row);
    });
  }

  /**
   * Adds a root without waiting for other processes, to a store path that this session relies on: a collection spares it
   * until the root is there. Durable when this resolves.
   */
  async addBy(writer: LocalWriter, name: string, storePath: StorePath): Promise<void> {
    checkRootName(name);
    await writer.row(this.#table, Buffer.from(name), rootRow(storePath));
    await writer.flush();
  }

  /** Throws NOT_FOUND when there is none of this name. */
  remove(name: string): void {
    checkRootName(name);
    if (!this.#env.transaction(() => this.#table.removeSync(Buffer.from(name)))) {
      throw noRoot(name);
    }
  }

  /** All of them, in the order of their names. Throws DATA_LOSS for a damaged one. */
  list(): Root[] {
    this.#env.refresh();
    return [...this.#table.rows()].map(({ key, value }) => parseRootRow(key, value));
  }

  /** Those that can be read, and the names of those that are damaged. */
  listReadable(): { readonly roots: Root[]; readonly damaged: string[] } {
    this.#env.refresh();
    const roots: Root[] = [];
    const names: string[] = [];
    for (const { key, value } of this.#table.rows()) {
      try {
        roots.push(parseRootRow(key, value));
      } catch {
        names.push(key.toString());
      }
    }
    return { roots, damaged: names };
  }

  /** The root of a name; `undefined` when there is none. */
  get(name: string): Root | undefined {
    const key = Buffer.from(name);
    const row = this.#table.get(key);
    return row && parseRootRow(key, row);
  }

  /** Removes those whose time is over. */
  removeExpired(): void {
    const over = this.list().filter(isExpired);
    if (over.length > 0) {
      this.#env.transaction(() => {
        for (const { name } of over) this.#table.removeSync(Buffer.from(name));
      });
    }
  }
}

function rootRow(storePath: StorePath, ttl?: number): Uint8Array {
  const body = Buffer.alloc(EXPIRY_LENGTH);
  body.writeDoubleLE(ttl === undefined ? 0 : now() + ttl);
  return sealedRow(0, Buffer.concat([body, Buffer.from(String(storePath), 'latin1')]));
}

/** What has become of roots that were to be added to another store. */
export interface AddedRoots {
  /** How many are there now. */
  roots: number;
  /** Names that mean another store path there, and were left so. */
  readonly others: string[];
}

/** Adds roots of another store, as far as their store paths are here; a name that means something else stays as it is. */
export function addRoots(env: Environment, roots: Iterable<Root>): AddedRoots {
  const table = new RootTable(env);
  const infos = new PathInfoTable(env);
  const added: AddedRoots = { roots: 0, others: [] };
  for (const root of roots) {
    const { name, storePath, expires } = root;
    if (isExpired(root) || !infos.get(storePath.hash)) continue;
    const there = table.get(name);
    if (there && !isExpired(there) && String(there.storePath) !== String(storePath)) {
      added.others.push(name);
      continue;
    }
    try {
      table.add(name, storePath, expires === undefined ? undefined : Math.max(1, expires - now()));
      added.roots++;
    } catch (error) {
      // A collection has been faster.
      if (!(error instanceof StoreError) || error.code !== 'NOT_FOUND') throw error;
    }
  }
  return added;
}

export function isExpired({ expires }: Root): boolean {
  return expires !== undefined && expires <= now();
}

export function noRoot(name: string): StoreError {
  return new StoreError('NOT_FOUND', `there is no root ${JSON.stringify(name)}`);
}

/** Reads a row. Throws DATA_LOSS for a damaged one. */
export function parseRootRow(key: Buffer, value: Uint8Array): Root {
  const name = key.toString();
  const body = sealedBody(value);
  if (!body) throw damaged(`the local store's root ${JSON.stringify(name)} is damaged; add it again`);
  const expires = body.readDoubleLE(0);
  const storePath = StorePath.parse(body.toString('latin1', EXPIRY_LENGTH));
  return { name, storePath, ...(expires > 0 ? { expires } : {}) };
}

/** Throws INVALID_ARGUMENT for what cannot be the name of a root. */
export function checkRootName(name: string): void {
  const { length } = Buffer.from(name);
  if (length === 0 || length > MAX_NAME_LENGTH) {
    throw invalid(`the name of a root has 1 to ${MAX_NAME_LENGTH} bytes, not ${length}`);
  }
}
