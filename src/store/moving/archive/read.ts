import type { Chunk } from '../../../castore/blob/service.ts';
import { tell } from '../../../castore/copy/copier.ts';
import { DIGEST_LENGTH, Digest, DigestHasher } from '../../../castore/digest.ts';
import { Directory } from '../../../castore/directory.ts';
import { LocalTreeSource } from '../../../castore/export/source.ts';
import { StorePath } from '../../../nix/store-path.ts';
import { Turns } from '../../../util/async/turns.ts';
import { isDamage, type StoreError } from '../../../util/errors.ts';
import { keepTree } from '../../keeping/keep-tree.ts';
import type { Root } from '../../keeping/roots.ts';
import { addRoots, checkRootName } from '../../keeping/roots.ts';
import { wholePathInfo } from '../../keeping/whole-path-info.ts';
import { decodePathInfo } from '../../path-info/message.ts';
import type { PathInfo } from '../../path-info/path-info.ts';
import { isSame, united } from '../../path-info/united.ts';
import { closureOf } from '../closure.ts';
import type { EverythingOptions, EverythingReport, OpenLocalStore } from '../everything.ts';
import { isThere, referredTo } from '../everything.ts';
import { register } from '../import.ts';
import type { RecordKind } from './format.ts';
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
  readonly #report: EverythingReport = {
    copied: 0,
    present: 0,
    roots: 0,
    otherRoots: [],
    damaged: [],
    missing: [],
  };
  readonly #infos: PathInfo[] = [];
  /** Lists of chunks that have yet to be put: the chunks must be readable before. */
  readonly #lists: PlacedRecord[] = [];
  readonly #turns: Turns;
  /** Roots of the last backup that came to its end, and those behind it. */
  #roots: Root[] = [];
  #newRoots: Root[] = [];

  constructor(records: Records, to: OpenLocalStore, options: EverythingOptions) {
    this.#records = records;
    this.#to = to;
    this.#options = options;
    this.#turns = new Turns(options.signal);
  }

  async run(): Promise<EverythingReport> {
    const report = this.#report;
    for (const record of this.#records.headers()) {
      await this.#take(record, this.#records.payload(record));
      if (this.#turns.isDue) await this.#turns.take();
    }
    if (this.#records.excess > 0)
      this.#bad(`the ${this.#records.excess} bytes from ${this.#records.size} on are damaged, or were cut`);
    const { roots, others } = addRoots(this.#to.local.env, this.#roots);
    report.roots = roots;
    report.otherRoots = others;
    const { missing } = await closureOf(this.#infos, async () => undefined, this.#options.signal);
    const gone = missing.filter((path) => !isThere(this.#to.local, path));
    report.missing.push(...referredTo(this.#infos, gone));
    return report;
  }

  #bad(problem: string): void {
    this.#report.damaged.push({ path: this.#records.path, problem });
  }

  async #take(record: PlacedRecord, payload: Buffer): Promise<void> {
    const { writer, env } = this.#to.local;
    if (record.kind === RECORD.list) {
      this.#lists.push(record);
      return;
    }
    tell(this.#options, payload.length);
    if (!Digest.hash(payload).equals(record.digest)) {
      // What refers to contents is found to lack them.
      if (record.kind >= RECORD.pathInfo) this.#bad(`the record at byte ${record.at} is damaged`);
      return;
    }
    if (record.kind === RECORD.chunk) {
      if (!(await writer.has(env.chunks, record.digest.bytes))) await writer.chunk(record.digest, payload);
      return;
    }
    if (record.kind === RECORD.end) {
      [this.#roots, this.#newRoots] = [this.#newRoots, []];
      return;
    }
    const read = reading(record.kind, payload);
    if (!read) this.#bad(`the record at byte ${record.at} cannot be understood`);
    else if (read instanceof Directory) {
      if (!(await writer.has(env.directories, record.digest.bytes))) await writer.directory(read);
    } else if ('node' in read) await this.#pathInfo(read);
    else this.#newRoots.push(read);
  }

  async #pathInfo(info: PathInfo): Promise<void> {
    await this.#to.directories.flush();
    for (const record of this.#lists.splice(0))
      await this.#list(record.digest, chunksIn(this.#records.payload(record)));
    await this.#to.blobs.flush();
    if (!(await keepTree(this.#to, info.node, this.#options.signal))) {
      const problem = 'a part of it is damaged in the backup';
      this.#report.damaged.push({ path: info.storePath.absolute(), problem });
      return;
    }
    this.#infos.push(info);
    const present = await wholePathInfo(this.#to, info.storePath.hash, this.#options.signal);
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
    try {
      if (await writer.hasBlob(blob.bytes, reader.manifest(blob.bytes))) return;
    } catch (error) {
      // A damaged list is put again.
      if (!isLoss(error)) throw error;
    }
    const source = new LocalTreeSource(reader);
    const hasher = new DigestHasher();
    try {
      for (const { digest, size } of chunks) {
        hasher.update(source.chunk(digest, size));
        if (this.#turns.isDue) await this.#turns.take();
      }
    } catch (error) {
      if (!isLoss(error)) throw error;
      return;
    }
    if (hasher.digest().equals(blob)) await writer.manifest(blob, chunks);
  }
}

/** What a record means; `undefined` when it means nothing. */
function reading(kind: RecordKind, payload: Buffer): Directory | PathInfo | Root | undefined {
  try {
    if (kind === RECORD.directory) return Directory.decode(payload);
    return kind === RECORD.pathInfo ? decodePathInfo(payload) : rootIn(payload);
  } catch {
    return undefined;
  }
}

function isLoss(error: unknown): error is StoreError {
  return isDamage(error);
}

function chunksIn(payload: Buffer): Chunk[] {
  return Array.from({ length: Math.floor(payload.length / LIST_ENTRY) }, (_, i) => {
    const entry = payload.subarray(i * LIST_ENTRY, (i + 1) * LIST_ENTRY);
    const digest = Digest.of(Uint8Array.from(entry.subarray(0, DIGEST_LENGTH)));
    return { digest, size: entry.readUInt32LE(DIGEST_LENGTH) };
  });
}

function rootIn(payload: Buffer): Root {
  const { name, path, expires } = JSON.parse(payload.toString());
  checkRootName(String(name));
  const storePath = StorePath.parseAbsolute(String(path));
  return { name: String(name), storePath, ...(Number.isFinite(expires) ? { expires } : {}) };
}
