import type { Groups } from '../../castore/bao/group-set.ts';
import { GroupSet, groupsOver } from '../../castore/bao/group-set.ts';
import { OutboardReader } from '../../castore/bao/reader.ts';
import { GROUP_LENGTH, groupCount } from '../../castore/bao/shape.ts';
import type { Chunk, Outboard } from '../../castore/blob/service.ts';
import { ifDamaged } from '../../util/errors.ts';
import { Scratch } from '../../util/scratch.ts';
import type { ChunkList, ChunkRange } from './chunk-list.ts';

/** Proven at once, beyond what somebody waits for, in bytes: who reads on need not ask again. */
const AHEAD = 2 << 20;

/** Where chunks lie for a moment. */
const scratch = new Scratch();

/** Copies a chunk into `out` at `at`; false when it is not there. */
export type ReadChunk = (chunk: Chunk, out: Uint8Array, at: number) => boolean;

/** What has been proven of a blob by its outboard, whatever its list of chunks is worth. */
export class Proof {
  readonly #blob: Chunk;
  readonly #outboard: OutboardReader;
  readonly #proven = new GroupSet();

  constructor(blob: Chunk, outboard: Outboard) {
    this.#blob = blob;
    this.#outboard = new OutboardReader(blob, outboard);
  }

  /** Whether nothing is left to be proven. */
  get isWhole(): boolean {
    return this.#proven.count === groupCount(this.#blob.size);
  }

  /** A part of the blob, as far as the groups go in which it lies: in bytes. */
  aligned(offset: number, length: number): { offset: number; length: number } {
    const { first, end } = groupsOver(offset, length);
    const from = first * GROUP_LENGTH;
    return { offset: from, length: Math.min(end * GROUP_LENGTH, this.#blob.size) - from };
  }

  has(offset: number, length: number): boolean {
    return this.#proven.hasAll(groupsOver(offset, length));
  }

  /**
   * Proves the groups that lie in these chunks, and if it can in those behind them that are there. Nothing is proven when
   * one has gone. Throws DATA_LOSS when they are not the blob's.
   */
  async prove(
    list: ChunkList,
    { first, end }: ChunkRange,
    read: ReadChunk,
    signal?: AbortSignal,
  ): Promise<Groups | undefined> {
    let ahead = end;
    while (ahead < list.chunks.length && list.start(ahead) - list.start(first) < AHEAD) {
      if (list.isMissing(list.chunks[ahead]!)) break;
      ahead++;
    }
    if (ahead > end) {
      const groups = await this.#prove(list, { first, end: ahead }, read, signal).catch(ifDamaged);
      if (groups) return groups;
    }
    return this.#prove(list, { first, end }, read, signal);
  }

  async #prove(
    list: ChunkList,
    { first, end }: ChunkRange,
    read: ReadChunk,
    signal: AbortSignal | undefined,
  ): Promise<Groups | undefined> {
    const start = list.start(first);
    const stop = list.start(end);
    const groups = {
      first: Math.ceil(start / GROUP_LENGTH),
      end: stop === this.#blob.size ? groupCount(stop) : Math.floor(stop / GROUP_LENGTH),
    };
    if (this.#proven.hasAll(groups)) return groups;
    const from = groups.first * GROUP_LENGTH;
    const until = Math.min(groups.end * GROUP_LENGTH, stop);
    await this.#outboard.load(from, until - from, signal);
    const bytes = scratch.take(stop - start);
    for (let i = first; i < end; i++)
      if (!read(list.chunks[i]!, bytes, list.start(i) - start)) return undefined;
    // All bytes have been looked at when this waits: others may use the memory then.
    await this.#outboard.prove(from, bytes.subarray(from - start, until - start), signal);
    this.#proven.add(groups);
    return groups;
  }
}
