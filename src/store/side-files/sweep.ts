import { rowEpoch } from '../../castore/local/rows.ts';
import { scan } from '../../castore/local/scan.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Node } from '../../castore/node.ts';
import { latin1 } from '../../util/bytes.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import { UploadTables } from '../upload/tables.ts';
import type { SideFile } from './table.ts';
import { nodeOf, parseSideFileRow, readableSideFile, SideFileTable } from './table.ts';

/**
 * Has a collection keep the side files of what it keeps, and takes away the others, unless somebody has just put them:
 * then what they go with may come.
 */
export class SideFileSweep {
  readonly #store: LocalStore;
  readonly #cutoff: number;
  readonly #table: SideFileTable;
  readonly #uploads: UploadTables;
  /** Hashes of store paths and of derivations, and of NARs. */
  readonly #kept = new Set<string>();

  constructor(store: LocalStore, cutoff: number) {
    this.#store = store;
    this.#cutoff = cutoff;
    this.#table = new SideFileTable(store);
    this.#uploads = new UploadTables(store);
  }

  keep({ storePath, deriver, narSha256 }: PathInfo): void {
    this.#kept.add(latin1(storePath.hash)).add(latin1(narSha256));
    if (deriver) this.#kept.add(latin1(deriver.hash));
  }

  /** Contents of those that stay. Whatever is kept must have been told before. */
  async *roots(): AsyncGenerator<Node> {
    for await (const file of this.#table.all()) if (this.#isKept(file)) yield nodeOf(file);
  }

  async run(): Promise<void> {
    const { env } = this.#store;
    const { table } = this.#table;
    for await (const rows of scan(env, table)) {
      const dead = rows.filter(({ key, value }) => {
        const file = readableSideFile(value, key);
        // A damaged row is left for others to find.
        return file !== undefined && !this.#isKept(file) && !this.#isYoung(file);
      });
      if (dead.length === 0) continue;
      env.transaction(() => {
        for (const { key, value } of dead) {
          const isSame = table.get(key)?.equals(value);
          if (isSame && !this.#isYoung(parseSideFileRow(value, ''))) table.removeSync(key);
        }
      });
    }
  }

  #isKept({ owner }: SideFile): boolean {
    return this.#kept.has(latin1(owner)) || this.#kept.has(latin1(this.#narOf(owner)));
  }

  /** The NAR in a compressed file. */
  #narOf(owner: Uint8Array): Uint8Array {
    try {
      return this.#uploads.file(owner)?.narSha256 ?? owner;
    } catch {
      return owner;
    }
  }

  #isYoung({ digest }: SideFile): boolean {
    const { manifests, chunks } = this.#store.env;
    const row = manifests.get(digest.bytes) ?? chunks.get(digest.bytes);
    return row !== undefined && rowEpoch(row) >= this.#cutoff;
  }
}
