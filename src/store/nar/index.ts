import { checkedRow, parseCheckedRow } from '../../castore/local/checked-row.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Table } from '../../castore/local/table.ts';
import type { Node } from '../../castore/node.ts';
import { nodeFromMessage, nodeToMessage } from '../../castore/node-message.ts';
import { tvix } from '../../proto/messages.ts';
import { toHex } from '../../util/bytes.ts';

const SIZE_LENGTH = 8;

/** A NAR that the store can render. */
export interface KnownNar {
  readonly node: Node;
  /** Bytes. */
  readonly narSize: bigint;
}

/**
 * The NARs in a local store by their SHA-256: those of its path infos, and those that were uploaded and await
 * one. A row: the length (u64, little-endian), the root as an encoded Node without a name, a CRC-32.
 */
export class NarIndex {
  readonly table: Table;
  readonly #store: LocalStore;

  constructor(store: LocalStore) {
    this.#store = store;
    this.table = store.env.table('nar');
  }

  /** Throws DATA_LOSS for a damaged row. */
  get(narSha256: Uint8Array): KnownNar | undefined {
    this.#store.env.refresh();
    const row = this.table.get(narSha256);
    return row && parseNarRow(row, narSha256);
  }

  /** Visible and durable with the next flush of the store. */
  async put(narSha256: Uint8Array, { node, narSize }: KnownNar): Promise<void> {
    const message = tvix.castore.v1.Node.encode(nodeToMessage(new Uint8Array(), node)).finish();
    const size = Buffer.alloc(SIZE_LENGTH);
    size.writeBigUInt64LE(narSize);
    const row = checkedRow(size, message);
    const present = this.table.get(narSha256);
    if (!present || !row.equals(present)) await this.#store.writer.row(this.table, narSha256, row);
  }

  /** For a row that leads to nothing any more. */
  async forget(narSha256: Uint8Array): Promise<void> {
    await this.#store.env.committed(this.table.remove(narSha256));
  }
}

/** Reads a row. Throws DATA_LOSS for a damaged one. */
export function parseNarRow(bytes: Uint8Array, narSha256: Uint8Array): KnownNar {
  const row = parseCheckedRow(bytes, SIZE_LENGTH, `NAR ${toHex(narSha256)}`);
  const message = tvix.castore.v1.Node.decode(row.subarray(SIZE_LENGTH));
  return { node: nodeFromMessage(message).node, narSize: row.readBigUInt64LE(0) };
}
