import { createHash } from 'node:crypto';
import { checkedRow, parseCheckedRow } from '../../castore/local/checked-row.ts';
import { scan } from '../../castore/local/scan.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Table, TableRow } from '../../castore/local/table.ts';
import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';

/** How long an answer is believed, in seconds: as Nix does. */
const FOUND_S = 30 * 86_400;
const ABSENT_S = 3600;
/** Longer ones are asked for again, in bytes. */
const MAX_LENGTH = 64 << 10;
/** What the table may take in the database before some of it goes, and what is left then of its rows, in bytes. */
const MAX_BYTES = 16 << 20;
const LEFT_BYTES = 4 << 20;
const PAGE = 4096;
/** What a row takes besides its value. */
const AROUND = 64;
/** The size is looked at after so many rows. */
const LOOK_EVERY = 256;

/** Beyond all ages of what is still believed. */
const GONE = 2;

const CACHE_LENGTH = 12;
const HEAD_LENGTH = 8;

/** What a cache has said of a path: its narinfo, or that there is none. */
export interface KeptAnswer {
  readonly narInfo: Uint8Array | undefined;
  /** That of the cache. */
  readonly priority: number;
}

/**
 * The answers of a binary cache about paths, as they came, in this machine's own cache: they outlast the process, and the
 * time for which the binary cache is away. A row, by the cache (12 bytes of the SHA-256 of its address) and the hash of the
 * path: time u32 (seconds since 1970) | priority u32 | narinfo, empty for none | CRC-32. Whoever gets one checks it as if
 * it had just come.
 */
export class KeptNarInfos {
  readonly #local: LocalStore;
  readonly #table: Table;
  readonly #cache: Buffer;
  #looksIn = 1;
  #sweeping = false;

  constructor(local: LocalStore, address: string) {
    this.#local = local;
    this.#table = local.env.table('narinfo');
    this.#cache = createHash('sha256').update(address).digest().subarray(0, CACHE_LENGTH);
  }

  /** `undefined` when nothing was said, or too long ago. */
  get(hash: Uint8Array): KeptAnswer | undefined {
    this.#local.env.refresh();
    const row = this.#table.get(this.#key(hash));
    if (!row) return undefined;
    try {
      const { time, priority, narInfo } = parse(row);
      const age = seconds() - time;
      return age >= 0 && age < (narInfo ? FOUND_S : ABSENT_S) ? { narInfo, priority } : undefined;
    } catch {
      // Damaged: it is asked for again.
      return undefined;
    }
  }

  /** Keeps an answer, which nobody waits for. */
  put(hash: Uint8Array, { narInfo = new Uint8Array(), priority }: KeptAnswer): void {
    if (narInfo.length > MAX_LENGTH) return;
    const head = Buffer.alloc(HEAD_LENGTH);
    head.writeUInt32LE(seconds(), 0);
    head.writeUInt32LE(priority, 4);
    const { env } = this.#local;
    void env.committed(this.#table.put(this.#key(hash), checkedRow(head, narInfo))).catch(complain);
    if (--this.#looksIn > 0) return;
    this.#looksIn = LOOK_EVERY;
    if (this.#table.pages * PAGE > MAX_BYTES && !this.#sweeping) void this.#sweep();
  }

  /**
   * Takes the oldest answers away, those first that there is no such path: anybody can have many of them given. The others
   * are written anew, without gaps between them: rows that are only deleted leave pages that are nearly empty.
   */
  async #sweep(): Promise<void> {
    this.#sweeping = true;
    try {
      const { env } = this.#local;
      const rows: (TableRow & { readonly age: number })[] = [];
      for await (const slice of scan(env, this.#table))
        for (const row of slice) rows.push({ ...row, age: ageOf(row.value) });
      rows.sort((a, b) => a.age - b.age);
      const staying: TableRow[] = [];
      let size = 0;
      for (const row of rows) {
        size += row.value.length + AROUND;
        if (row.age >= GONE || size > LEFT_BYTES) break;
        staying.push(row);
      }
      staying.sort((a, b) => a.key.compare(b.key));
      await env.transactionSoon(() => {
        this.#table.clearSync();
        for (const { key, value } of staying) this.#table.putSync(key, value);
      });
    } catch (error) {
      complain(error);
    } finally {
      this.#sweeping = false;
    }
  }

  #key(hash: Uint8Array): Buffer {
    return Buffer.concat([this.#cache, hash]);
  }
}

function parse(row: Uint8Array) {
  const body = parseCheckedRow(row, HEAD_LENGTH, 'a narinfo');
  const narInfo = body.length > HEAD_LENGTH ? body.subarray(HEAD_LENGTH) : undefined;
  return { time: body.readUInt32LE(0), priority: body.readUInt32LE(4), narInfo };
}

/** The age of an answer, as a part of how long it is believed; one more for that there is no such path. */
function ageOf(row: Uint8Array): number {
  try {
    const { time, narInfo } = parse(row);
    const age = (seconds() - time) / (narInfo ? FOUND_S : ABSENT_S);
    if (age < 1) return narInfo ? age : age + 1;
  } catch {
    // Damaged.
  }
  return GONE;
}

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

function complain(error: unknown): void {
  log.debug('cannot keep what a binary cache has said', { error: messageOf(error) });
}
