import type { BlobService } from '../../castore/blob/service.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import { collect } from '../../util/bytes.ts';
import { damaged, invalid } from '../../util/errors.ts';
import type { Services } from '../services.ts';
import type { SideFileName } from './name.ts';
import { archiveOf, derivationOf } from './name.ts';
import type { Realisation } from './realisation.ts';
import { parseRealisation, withSignaturesOf } from './realisation.ts';
import type { SideFile } from './table.ts';
import { SideFileTable } from './table.ts';

/** Of all but logs, in bytes. */
export const MAX_SMALL_LENGTH = 1 << 20;

type Bytes = AsyncIterable<Uint8Array>;

/** The contents of a side file. */
export interface SideFileContents {
  /** Bytes. */
  readonly size: number;
  /** The bytes from `start` up to `end`. */
  read(start: number, end: number, signal: AbortSignal | undefined): Bytes;
}

/** The side files of a store: their contents are blobs of it, and a table of a local store names those. */
export class SideFiles {
  readonly #store: Pick<Services, 'blobs'>;
  readonly #local: LocalStore;
  readonly #table: SideFileTable;

  constructor(store: Pick<Services, 'blobs'>, local: LocalStore) {
    this.#store = store;
    this.#local = local;
    this.#table = new SideFileTable(local);
  }

  /** Takes a file, over one that may be there. It is durable when this resolves. Throws INVALID_ARGUMENT. */
  async put(name: SideFileName, bytes: Bytes, signal?: AbortSignal): Promise<void> {
    if (name.kind === 'log') return this.#keep(name, bytes, derivationOf(name), signal);
    const contents = await collect(bytes, MAX_SMALL_LENGTH);
    if (!contents) throw invalid(`${name.text} is longer than ${MAX_SMALL_LENGTH} bytes`);
    if (name.kind === 'debug-info') return this.#keep(name, [contents], archiveOf(contents), signal);
    const realisation = parseRealisation(name, contents);
    const older = await this.realisation(name, signal).catch(() => undefined);
    return this.#keep(name, [withSignaturesOf(older, realisation)], realisation.outPath.hash, signal);
  }

  async #keep(
    name: SideFileName,
    bytes: Bytes | Iterable<Uint8Array>,
    owner: Uint8Array,
    signal?: AbortSignal,
  ): Promise<void> {
    const { blobs } = this.#store;
    const { digest, size } = await blobs.put(bytes, { signal });
    await blobs.flush();
    await this.#table.put(name.text, { digest, size, owner });
    await this.#local.writer.flush();
  }

  /** `undefined` when it is not there. What is there stays for as long as this process lives. */
  async get({ text }: SideFileName, signal?: AbortSignal): Promise<SideFileContents | undefined> {
    const found = this.#table.get(text);
    const { blobs } = this.#store;
    if (!found || !(await blobs.has(found.digest, { size: found.size, signal }))) return undefined;
    return contentsOf(blobs, found);
  }

  /** `undefined` when it is not there. */
  async realisation(name: SideFileName, signal?: AbortSignal): Promise<Realisation | undefined> {
    const found = await this.get(name, signal);
    const contents = found && (await collect(found.read(0, found.size, signal), MAX_SMALL_LENGTH));
    return contents && parseRealisation(name, contents);
  }
}

/** What a side file has in it. */
export function contentsOf(blobs: BlobService, { digest, size }: SideFile): SideFileContents {
  const read = async function* (start: number, end: number, signal: AbortSignal | undefined) {
    const contents = await blobs.read(digest, { size, offset: start, signal });
    if (!contents) throw damaged(`blob ${digest} is missing`);
    let left = end - start;
    for await (const part of contents) {
      if (left <= 0) return;
      yield part.subarray(0, left);
      left -= part.length;
    }
  };
  return { size, read };
}
