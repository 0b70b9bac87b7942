import type { Chunk } from '../../../castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../../../castore/blob/service.ts';
import { tell } from '../../../castore/copy/copier.ts';
import { Digest, DigestHasher } from '../../../castore/digest.ts';
import { LocalTreeSource } from '../../../castore/export/source.ts';
import type { LocalStore } from '../../../castore/local/store.ts';
import type { FileNode, Node } from '../../../castore/node.ts';
import { filesOf, leavesFirst } from '../../../castore/walk.ts';
import { Turns } from '../../../util/async/turns.ts';
import { latin1 } from '../../../util/bytes.ts';
import { damaged, isDamage } from '../../../util/errors.ts';
import { isExpired, RootTable } from '../../keeping/roots.ts';
import { encodePathInfo } from '../../path-info/message.ts';
import { closureOf } from '../closure.ts';
import type { EverythingOptions, EverythingReport, OpenLocalStore } from '../everything.ts';
import { isThere, pathInfosOf, referredTo } from '../everything.ts';
import type { RecordKind } from './format.ts';
import { RECORD } from './format.ts';
import { Records } from './records.ts';

/** Adds to a file all that it lacks of a local store, as `copyEverything` does to another store. */
export async function backUpToFile(
  from: OpenLocalStore,
  path: string,
  { onPlan, ...options }: EverythingOptions = {},
): Promise<EverythingReport> {
  const { infos, damaged: lost } = pathInfosOf(from.local);
  const report: EverythingReport = {
    copied: 0,
    present: 0,
    roots: 0,
    otherRoots: [],
    damaged: lost,
    missing: [],
  };
  const { paths, missing } = await closureOf(infos, async () => undefined, options.signal);
  report.missing.push(...referredTo(infos, missing));
  const records = Records.openToAdd(path);
  try {
    const writer = new ArchiveWriter(from.local, records, options);
    onPlan?.(paths.length);
    for (const info of paths) {
      try {
        const isNew = await writer.pathInfo(info.node, encodePathInfo(info));
        if (isNew) report.copied++;
        else report.present++;
        options.onCopied?.(info);
      } catch (error) {
        if (!isDamage(error)) throw error;
        if (isThere(from.local, info.storePath))
          lost.push({ path: info.storePath.absolute(), problem: error.message });
      }
    }
    const { roots, damaged: lostRoots } = new RootTable(from.local.env).listReadable();
    for (const name of lostRoots) lost.push({ path: `root ${name}`, problem: 'it is damaged: add it again' });
    for (const { name, storePath, expires } of roots.filter((root) => !isExpired(root))) {
      records.add(RECORD.root, Buffer.from(JSON.stringify({ name, path: storePath.absolute(), expires })));
      report.roots++;
    }
    records.sync();
    records.add(
      RECORD.end,
      Buffer.from(JSON.stringify({ time: new Date().toISOString(), paths: paths.length })),
    );
    records.sync();
    return report;
  } finally {
    records.close();
  }
}

/** Writes what a file does not have yet. */
class ArchiveWriter {
  readonly #local: LocalStore;
  readonly #records: Records;
  readonly #source: LocalTreeSource;
  readonly #options: EverythingOptions;
  /** Digests by kind. */
  readonly #there = new Map<number, Set<string>>(Object.values(RECORD).map((kind) => [kind, new Set()]));
  readonly #turns: Turns;

  constructor(local: LocalStore, records: Records, options: EverythingOptions) {
    this.#local = local;
    this.#records = records;
    this.#source = new LocalTreeSource(local.reader);
    this.#options = options;
    this.#turns = new Turns(options.signal);
    for (const { kind, digest } of records.headersToAddTo()) this.#there.get(kind)!.add(latin1(digest.bytes));
  }

  /** Whether it was not there. */
  async pathInfo(root: Node, encoded: Uint8Array): Promise<boolean> {
    const before = this.#records.size;
    if (root.kind === 'file') await this.#file(root);
    if (root.kind === 'directory') await this.#tree(root);
    this.#add(RECORD.pathInfo, encoded);
    return this.#records.size > before;
  }

  async #tree(root: Node & { kind: 'directory' }): Promise<void> {
    // All below it came before it.
    if (this.#has(RECORD.directory, root.digest.bytes)) return;
    for await (const directory of leavesFirst(root.digest, (digest) => this.#source.directory(digest))) {
      for (const file of filesOf(directory)) await this.#file(file);
      this.#add(RECORD.directory, directory.bytes, directory.digest);
      tell(this.#options, 0);
      if (this.#turns.isDue) await this.#turns.take();
    }
  }

  async #file(file: FileNode): Promise<void> {
    const { digest, size } = file;
    const chunks = size > SINGLE_CHUNK_LIMIT ? this.#local.reader.manifest(digest.bytes) : undefined;
    if (chunks) await this.#blob(file, chunks);
    else this.#chunk({ digest, size: Number(size) });
    tell(this.#options, 0);
  }

  async #blob({ digest }: FileNode, chunks: readonly Chunk[]): Promise<void> {
    if (this.#has(RECORD.list, digest.bytes)) return;
    const hasher = new DigestHasher();
    const entries: Buffer[] = [];
    for (const chunk of chunks) {
      const bytes = this.#source.chunk(chunk.digest, chunk.size);
      hasher.update(bytes);
      this.#add(RECORD.chunk, bytes, chunk.digest);
      const size = Buffer.alloc(4);
      size.writeUInt32LE(chunk.size);
      entries.push(Buffer.from(chunk.digest.bytes), size);
      if (this.#turns.isDue) await this.#turns.take();
    }
    if (!hasher.digest().equals(digest)) throw damaged(`the local store's blob ${digest} is damaged`);
    this.#add(RECORD.list, Buffer.concat(entries), digest);
  }

  #has(kind: RecordKind, digest: Uint8Array): boolean {
    return this.#there.get(kind)!.has(latin1(digest));
  }

  #add(kind: RecordKind, payload: Uint8Array, digest = Digest.hash(payload)): void {
    if (this.#has(kind, digest.bytes)) return;
    this.#records.add(kind, payload, digest);
    this.#there.get(kind)!.add(latin1(digest.bytes));
    tell(this.#options, payload.length);
  }

  #chunk({ digest, size }: Chunk): void {
    if (!this.#has(RECORD.chunk, digest.bytes))
      this.#add(RECORD.chunk, this.#source.chunk(digest, size), digest);
  }
}
