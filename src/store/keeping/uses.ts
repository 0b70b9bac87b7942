import type { Environment } from '../../castore/local/environment.ts';
import { rowEpoch, sealedBody, sealedRow } from '../../castore/local/rows.ts';
import type { Table } from '../../castore/local/table.ts';

const LENGTH = 8;
/** Of rows by earlier versions, which do not tell when the path was added. */
const SHORT = 4;
/** A use is noted again after so many seconds. */
const EXACTNESS = 600;
/** Rows in one transaction. */
const BATCH = 1000;

/** When a store path was put or asked for last. */
export interface Use {
  /** As with the rows of castore: the collector spares what a living session has put or said to be there. */
  readonly epoch: number;
  /** In seconds since 1970. */
  readonly time: number;
  /** When it was first put, 0 when that is not known. */
  readonly added: number;
}

const NOTHING_KNOWN: Use = { epoch: 0, time: 0, added: 0 };

/** The table of uses, by the hash of the store path: epoch u32 | time u32 | added u32 | crc u32. */
export class UseTable {
  readonly table: Table;
  readonly #env: Environment;

  constructor(env: Environment) {
    this.#env = env;
    this.table = env.table('use');
  }

  get(hash: Uint8Array): Use {
    const row = this.table.view(hash);
    return row ? parsed(row) : NOTHING_KNOWN;
  }

  /** Notes a use, within a transaction of the caller's. */
  note(hash: Uint8Array, epoch: number): void {
    const before = this.table.get(hash);
    const row = this.row(epoch);
    this.table.putSync(hash, before ? this.united(before, row) : row);
  }

  /** The row of a path that is used now, and put for the first time. */
  row(epoch: number): Uint8Array {
    const body = Buffer.alloc(LENGTH);
    body.writeUInt32LE(now());
    body.writeUInt32LE(now(), SHORT);
    return sealedRow(epoch, body);
  }

  /** The row of a use after another one. */
  united(before: Uint8Array, row: Uint8Array): Uint8Array {
    const known = parsed(before);
    const body = Buffer.from(sealedBody(row)!);
    body.writeUInt32LE(known.added, SHORT);
    return sealedRow(Math.max(known.epoch, rowEpoch(row)), body);
  }

  /** Uses that a clock which was ahead has noted count from now on, and not until that time comes. */
  endFuture(): void {
    const ahead = [...this.table.rows()].map(({ key }) => key).filter((key) => this.get(key).time > now());
    for (let next = 0; next < ahead.length; next += BATCH) {
      this.#env.transaction(() => {
        for (const key of ahead.slice(next, next + BATCH)) this.note(key, 0);
      });
    }
  }

  /** Whether a use has been noted that holds for a session of this epoch, and not long ago. */
  isNoted(hash: Uint8Array, epoch: number): boolean {
    const use = this.get(hash);
    return use.epoch >= epoch && Math.abs(now() - use.time) < EXACTNESS;
  }

  /** Notes a use; tells whether the path info is in its table, and stays there while the session lives. */
  async noted(hash: Uint8Array, epoch: number, infos: Table): Promise<boolean> {
    const isThere = () => infos.has(hash);
    if (this.isNoted(hash, epoch)) return isThere();
    const note = () => {
      this.note(hash, epoch);
      return isThere();
    };
    return this.#env.noteSoon(note, isThere);
  }
}

function parsed(row: Uint8Array): Use {
  // What is damaged only says that nothing is known.
  const body = sealedBody(row);
  if (!body) return NOTHING_KNOWN;
  const added = body.length > SHORT ? body.readUInt32LE(SHORT) : 0;
  return { epoch: rowEpoch(row), time: body.readUInt32LE(0), added };
}

export function now(): number {
  return Math.floor(Date.now() / 1000);
}
