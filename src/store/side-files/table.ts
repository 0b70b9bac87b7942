import { Digest } from '../../castore/digest.ts';
import { checkedRow, parseCheckedRow } from '../../castore/local/checked-row.ts';
import { scan } from '../../castore/local/scan.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Table } from '../../castore/local/table.ts';
import type { Node } from '../../castore/node.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';

/** The name of the table. */
export const SIDE_FILE = 'side-file';

const DIGEST_LENGTH = 32;
const SIZE_LENGTH = 8;
const OWNER_AT = DIGEST_LENGTH + SIZE_LENGTH;

/** Where the contents of a side file are, and what it goes with. */
export interface SideFile {
  /** Of the blob. */
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /**
   * What has to be there for it to stay: the hash of a store path or of a derivation that one was built by, or the SHA-256
   * of a NAR or of the compressed file of one.
   */
  readonly owner: Uint8Array;
}

/** Side files of a local store, by their name. A row: digest, size (u64, little-endian), owner, CRC-32. */
export class SideFileTable {
  readonly table: Table;
  readonly #store: LocalStore;

  constructor(store: LocalStore) {
    this.#store = store;
    this.table = store.env.table(SIDE_FILE);
  }

  /** Throws DATA_LOSS for a damaged row. */
  get(name: string): SideFile | undefined {
    this.#store.env.refresh();
    const row = this.table.get(Buffer.from(name));
    return row && parseSideFileRow(row, name);
  }

  /** All that can be read, in slices, so that others have their turn. */
  async *all(): AsyncGenerator<SideFile & { readonly name: string }> {
    for await (const rows of scan(this.#store.env, this.table)) {
      for (const { key, value } of rows) {
        const file = readableSideFile(value, key);
        if (file) yield { ...file, name: key.toString() };
      }
    }
  }

  /** Its contents were put and flushed before. Visible and durable with the next flush of the store. */
  async put(name: string, { digest, size, owner }: SideFile): Promise<void> {
    const length = Buffer.alloc(SIZE_LENGTH);
    length.writeBigUInt64LE(BigInt(size));
    const row = checkedRow(digest.bytes, length, owner);
    await this.#store.writer.row(this.table, Buffer.from(name), row);
  }
}

/** Reads a row. Throws DATA_LOSS for a damaged one. */
export function parseSideFileRow(bytes: Uint8Array, name: string): SideFile {
  const row = parseCheckedRow(bytes, OWNER_AT, `the file ${JSON.stringify(name)}`);
  const size = Number(row.readBigUInt64LE(DIGEST_LENGTH));
  if (!Number.isSafeInteger(size))
    throw damaged(`the local store's row of ${JSON.stringify(name)} is damaged`);
  return {
    digest: Digest.of(row.subarray(0, DIGEST_LENGTH)),
    size,
    owner: Uint8Array.from(row.subarray(OWNER_AT)),
  };
}

/** As `parseSideFileRow`, but nothing for a damaged row. */
export function readableSideFile(row: Uint8Array, key: Uint8Array): SideFile | undefined {
  try {
    return parseSideFileRow(row, asBuffer(key).toString());
  } catch {
    return undefined;
  }
}

/** The contents of a side file, as a tree. */
export function nodeOf({ digest, size }: SideFile): Node {
  return { kind: 'file', digest, size: BigInt(size), executable: false };
}
