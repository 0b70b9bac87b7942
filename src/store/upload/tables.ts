import { checkedRow, parseCheckedRow } from '../../castore/local/checked-row.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Table } from '../../castore/local/table.ts';
import { toHex } from '../../util/bytes.ts';
import { NarIndex } from '../nar/index.ts';
import type { StoredFormat } from './stored.ts';

/** In the order of the byte that stands for them. */
const COMPRESSIONS: readonly StoredFormat[] = ['xz', 'zstd', 'gzip', 'lz4', 'br'];
const SHA256_LENGTH = 32;
const FILE_ROW_LENGTH = 1 + SHA256_LENGTH + 4;

/** A compressed NAR that was uploaded. */
export interface UploadedFile {
  readonly compression: StoredFormat;
  readonly narSha256: Uint8Array;
  /** CRC-32 of the NAR. */
  readonly crc32: number;
}

/** Tables of a local store for uploads, besides path infos and contents. */
export class UploadTables {
  readonly store: LocalStore;
  readonly nars: NarIndex;
  /** By the SHA-256 of the file: compression u8, SHA-256 of the NAR, its CRC-32 (u32, little-endian). */
  readonly #files: Table;
  /** By the hash of the store path: those lines of the narinfo that a path info has no place for. */
  readonly #lines: Table;

  constructor(store: LocalStore) {
    this.store = store;
    this.nars = new NarIndex(store);
    this.#files = store.env.table('nar-file');
    this.#lines = store.env.table('narinfo-lines');
  }

  /** Throws DATA_LOSS for a damaged row. */
  file(sha256: Uint8Array): UploadedFile | undefined {
    const row = this.#get(this.#files, sha256, FILE_ROW_LENGTH, `NAR file ${toHex(sha256)}`);
    const compression = row && COMPRESSIONS[row[0]!];
    if (!compression) return undefined;
    const narSha256 = Uint8Array.from(row.subarray(1, 1 + SHA256_LENGTH));
    return { compression, narSha256, crc32: row.readUInt32LE(1 + SHA256_LENGTH) };
  }

  /** Visible and durable with the next flush of the store. */
  async putFile(sha256: Uint8Array, { compression, narSha256, crc32 }: UploadedFile): Promise<void> {
    const sum = Buffer.alloc(4);
    sum.writeUInt32LE(crc32);
    const row = checkedRow(Buffer.from([COMPRESSIONS.indexOf(compression)]), narSha256, sum);
    await this.store.writer.row(this.#files, sha256, row);
  }

  /** Each of them ended; none for a path that nobody uploaded. Throws DATA_LOSS for a damaged row. */
  lines(hash: Uint8Array): string {
    return this.#get(this.#lines, hash, 0, `narinfo ${toHex(hash)}`)?.toString() ?? '';
  }

  /** Visible and durable with the next flush of the store. */
  async putLines(hash: Uint8Array, lines: string): Promise<void> {
    if (lines === this.lines(hash)) return;
    await this.store.writer.row(this.#lines, hash, checkedRow(Buffer.from(lines)));
  }

  #get(table: Table, key: Uint8Array, least: number, what: string): Buffer | undefined {
    this.store.env.refresh();
    const row = table.get(key);
    return row && parseCheckedRow(row, least, what);
  }
}
