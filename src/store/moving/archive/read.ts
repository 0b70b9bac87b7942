import { setImmediate as turn } from 'node:timers/promises';
import type { Chunk } from '../../../castore/blob/service.ts';
import { tell } from '../../../castore/copy/copier.ts';
import { DIGEST_LENGTH, Digest, DigestHasher } from '../../../castore/digest.ts';
import { Directory } from '../../../castore/directory.ts';
import { LocalTreeSource } from '../../../castore/export/source.ts';
import { StorePath } from '../../../nix/store-path.ts';
import { asBuffer } from '../../../util/bytes.ts';
import { damaged, messageOf, StoreError } from '../../../util/errors.ts';
import { keepTree } from '../../keeping/keep-tree.ts';
import type { Root } from '../../keeping/roots.ts';
import { addRoot, isExpired } from '../../keeping/roots.ts';
import { decodePathInfo } from '../../path-info/message.ts';
import type { PathInfo } from '../../path-info/path-info.ts';
import { isSame, united } from '../../path-info/united.ts';
import { closureOf } from '../closure.ts';
import type { EverythingOptions, EverythingReport, OpenLocalStore } from '../everything.ts';
import { isThere, referredTo } from '../everything.ts';
import { register } from '../import.ts';
import { RECORD } from './format.ts';
import type { PlacedRecord } from './records.ts';
import { Records } from './records.ts';

const LIST_ENTRY = DIGEST_LENGTH + 4;

/** Puts all that is in a backup file into a local store, as `copyEverything` does from another store. */
export async function restoreFromFile(
  path: string,
  to: OpenLocalStore,
  { onPlan, ...options }: EverythingOptions = {},
): Promise<EverythingReport> {
  const records = Records.openToRead(path);
  try {
    return await new Restoring(records, to, options).run();
  } finally {
    records.close();
  }
}

class Restoring {
  readonly #records: Records;
  readonly #to: OpenLocalStore;
  readonly #options: EverythingOptions;
  readonly #report: EverythingReport = { copied: 0, present: 0, roots: 0, damaged: [], missing: [] };
  readonly #infos: PathInfo[] = [];
  /** Lists of chunks that have yet to be put: the chunks must be readable before. */
  #lists: { readonly blob: Digest; readonly chunks: readonly Chunk[] }[] = [];
  /** Roots of the last backup that came to its end, and those behind it. */
  #roots: Root[] = [];
  #newRoots: Root[] = [];

  constructor(records: Records, to: OpenLocalStore, options: EverythingOptions) {
    this.#records = records;
    this.#to = to;
    this.#options = options;
  }

  async run(): Promise<EverythingReport> {
    const report = this.#report;
    try {
      for (const record of this.#records.headers()) {
        this.#options.signal?.throwIfAborted();
        await this.#take(record);
      }
      if (this.#records.excess > 0)
        throw damaged(`it was cut: ${this.#records.excess} bytes at its end are no record`);
    } catch (error) {
      if (!isLoss(error)) throw error;
      const problem = `${error.message}; nothing behind byte ${this.#records.size} can be restored`;
      report.damaged.push({ path: this.#records.path, problem });
    }
    for (const root of this.#roots) {
      if (isExpired(root) || !isThere(this.#to.local, root.storePath)) continue;
      addRoot(this.#to.local.env, root);
      report.roots++;
    }
    const { missing } = await closureOf(this.#infos, async () => undefined, this.#options.signal);
    const gone = missing.filter((path) => !isThere(this.#to.local, path));
    report.missing.push(...referredTo(this.#infos, gone));
    return report;
  }

  async #take(record: PlacedRecord): Promise<void> {
    const payload = this.#records.payload(record);
    const isWhole = record.kind === RECORD.list || Digest.hash(payload).equals(record.digest);
    // What refers to it is found to lack it.
    if (!isWhole) {
      if (record.kind >= RECORD.pathInfo)
        this.#report.damaged.push({
          path: this.#records.path,
          problem: `the record at byte ${record.at} is damaged`,
        });
      return;
    }
    const { writer, env } = this.#to.local;
    tell(this.#options, payload.length);
    switch (record.kind) {
      case RECORD.directory:
        if (!(await writer.has(env.directories, record.digest.bytes)))
          await writer.directory(Directory.decode(payload));
        break;
      case RECORD.chunk:
        if (!(await writer.has(env.chunks, record.digest.bytes))) await writer.chunk(record.digest, payload);
        break;
      case RECORD.list:
        this.#lists.push({ blob: record.digest, chunks: chunksIn(payload) });
        break;
      case RECORD.pathInfo:
        await this.#pathInfo(decodePathInfo(payload));
        break;
      case RECORD.root:
        this.#newRoots.push(rootIn(payload));
        break;
      case RECORD.end:
        [this.#roots, this.#newRoots] = [this.#newRoots, []];
    }
  }

  async #pathInfo(info: PathInfo): Promise<void> {
    await this.#to.directories.flush();
    for (const { blob, chunks } of this.#lists.splice(0)) await this.#list(blob, chunks);
    await this.#to.blobs.flush();
    if (!(await keepTree(this.#to, info.node, this.#options.signal))) {
      const problem = 'a part of it is damaged in the backup';
      this.#report.damaged.push({ path: info.storePath.absolute(), problem });
      return;
    }
    this.#infos.push(info);
    const present = await this.#to.pathInfos.get(info.storePath.hash);
    const wanted = present ? united(present, info) : info;
    if (present && isSame(present, wanted)) {
      this.#report.present++;
      return;
    }
    await register(this.#to, wanted, this.#options.signal);
    this.#report.copied++;
    this.#options.onCopied?.(info);
  }

  /** A list is put when its chunks are there and make up the blob. */
  async #list(blob: Digest, chunks: readonly Chunk[]): Promise<void> {
    const { writer, reader } = this.#to.local;
    if (await writer.hasBlob(blob.bytes, reader.manifest(blob.bytes))) return;
    const source = new LocalTreeSource(reader);
    const hasher = new DigestHasher();
    try {
      for (const { digest, size } of chunks) hasher.update(source.chunk(digest, size));
    } catch (error) {
      if (!isLoss(error)) throw error;
      return;
    }
    if (hasher.digest().equals(blob)) await writer.manifest(blob, chunks);
    await turn();
  }
}

function isLoss(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === 'DATA_LOSS';
}

function chunksIn(payload: Buffer): Chunk[] {
  return Array.from({ length: Math.floor(payload.length / LIST_ENTRY) }, (_, i) => {
    const entry = payload.subarray(i * LIST_ENTRY, (i + 1) * LIST_ENTRY);
    const digest = Digest.of(Uint8Array.from(entry.subarray(0, DIGEST_LENGTH)));
    return { digest, size: entry.readUInt32LE(DIGEST_LENGTH) };
  });
}

function rootIn(payload: Buffer): Root {
  try {
    const { name, path, expires } = JSON.parse(asBuffer(payload).toString());
    return {
      name: String(name),
      storePath: StorePath.parseAbsolute(String(path)),
      ...(expires ? { expires } : {}),
    };
  } catch (error) {
    throw damaged(`a root in it is damaged: ${messageOf(error)}`);
  }
}
