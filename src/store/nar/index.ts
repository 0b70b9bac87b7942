import { crc32 } from 'node:zlib';
import type { Table } from '../../castore/local/environment.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Node } from '../../castore/node.ts';
import { nodeFromMessage, nodeToMessage } from '../../castore/node-message.ts';
import { tvix } from '../../proto/messages.ts';
import { asBuffer, toHex } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';

const SIZE_LENGTH = 8;
const CHECKSUM_LENGTH = 4;

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
    const bytes = this.table.get(asBuffer(narSha256));
    if (!bytes) return undefined;
    const row = asBuffer(bytes);
    const body = row.subarray(0, Math.max(0, row.length - CHECKSUM_LENGTH));
    if (body.length < SIZE_LENGTH || crc32(body) !== row.readUInt32LE(body.length)) {
      throw damaged(`the local store's index row of NAR ${toHex(narSha256)} is damaged`);
    }
    const message = tvix.castore.v1.Node.decode(body.subarray(SIZE_LENGTH));
    return { node: nodeFromMessage(message).node, narSize: body.readBigUInt64LE(0) };
  }

  /** Visible and durable with the next flush of the store. */
  async put(narSha256: Uint8Array, { node, narSize }: KnownNar): Promise<void> {
    const message = tvix.castore.v1.Node.encode(nodeToMessage(new Uint8Array(), node)).finish();
    const row = Buffer.alloc(SIZE_LENGTH + message.length + CHECKSUM_LENGTH);
    row.writeBigUInt64LE(narSize, 0);
    row.set(message, SIZE_LENGTH);
    const end = SIZE_LENGTH + message.length;
    row.writeUInt32LE(crc32(row.subarray(0, end)), end);
    const present = this.table.get(asBuffer(narSha256));
    if (!present || !row.equals(present)) await this.#store.writer.row(this.table, narSha256, row);
  }
}
