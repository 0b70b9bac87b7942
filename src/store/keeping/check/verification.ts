import { parseCheckedRow } from '../../../castore/local/checked-row.ts';
import { DigestMap } from '../../../castore/local/digest-map.ts';
import { FORMAT } from '../../../castore/local/format.ts';
import type { Gap, RawDatabase } from '../../../castore/local/raw-database.ts';
import { EPOCH_LENGTH, parseManifestRow, rowEpoch, sealedBody } from '../../../castore/local/rows.ts';
import type { Verdict, VerifyRow } from '../../../castore/local/verify.ts';
import { castoreVerifiers } from '../../../castore/local/verify.ts';
import type { TreeSource } from '../../../castore/local/walk.ts';
import { TreeWalker } from '../../../castore/local/walk.ts';
import { encodeBase32 } from '../../../nix/base32.ts';
import { STORE_DIR, STORE_PATH_HASH_LENGTH } from '../../../nix/store-path.ts';
import { toHex } from '../../../util/bytes.ts';
import { messageOf } from '../../../util/errors.ts';
import { parseNarRow } from '../../nar/index.ts';
import { parsePathInfoRow } from '../../path-info/local.ts';
import type { PathInfo } from '../../path-info/path-info.ts';
import { CONDEMNED } from '../condemned.ts';
import { parseRootRow } from '../roots.ts';
import type { CheckReport, Damage, DamagedPath } from './report.ts';

/** Tables that every store has, and those that come with use. Others are another layer's. */
const NEEDED = ['meta', 'directory', 'manifest', 'chunk', 'pathinfo'];
const KINDS: Record<string, string> = { directory: 'directory', manifest: 'chunk list', chunk: 'chunk' };
/** Problems told of a path. */
const MAX_PROBLEMS = 3;

const GOOD: Verdict = { bytes: 0 };

/** Checks all rows of a database, and that store paths have all they need. */
export class Verification {
  readonly #database: RawDatabase;
  readonly #gaps: readonly Gap[];
  readonly #verifiers: Record<string, VerifyRow>;
  /** As they are, or else as they are likely to have been. */
  readonly epoch: number;
  readonly kind: 'store' | 'cache';
  readonly #damages = new Map<string, Damage>();
  readonly #structure: string[] = [];
  /** Directories below which all is well. */
  readonly #whole = new DigestMap();
  #objects = 0;
  #bytes = 0;

  constructor(dir: string, database: RawDatabase, gaps: readonly Gap[]) {
    this.#database = database;
    this.#gaps = gaps;
    const meta = (name: string) => database.get('meta', Buffer.from(name))?.toString() ?? '';
    const epoch = Number(meta('epoch'));
    const kind = meta('kind');
    if (meta('format') !== String(FORMAT)) this.#structure.push('the format is damaged');
    if (!(epoch >= 1)) this.#structure.push('the epoch is damaged');
    if (kind !== 'store' && kind !== 'cache') this.#structure.push('the kind is damaged');
    this.epoch = Number.isSafeInteger(epoch) ? Math.max(1, epoch) : 1;
    // Only caches have that table.
    this.kind =
      kind === 'store' || (kind !== 'cache' && !database.names.includes('provisional')) ? 'store' : 'cache';
    this.#verifiers = {
      ...castoreVerifiers(dir),
      pathinfo: checking((key, row) => {
        const { storePath } = parsePathInfoRow(row, key);
        if (Buffer.compare(storePath.hash, key) !== 0) throw new Error(`it is that of ${storePath}`);
      }),
      nar: checking((key, row) => parseNarRow(row, key)),
      'nar-file': checking((_, row) => parseCheckedRow(row, 0, 'a NAR file')),
      'narinfo-lines': checking((_, row) => parseCheckedRow(row, 0, 'a narinfo')),
      root: checking((key, row) => parseRootRow(key, row)),
      use: checking((_, row) => {
        if (!sealedBody(row)) throw new Error('its row is damaged');
      }),
      provisional: checking((key, row) => {
        if (row.length !== 1 || !database.get('manifest', key)) throw new Error('it names no chunk list');
      }),
    };
    this.#verifiers[CONDEMNED] = this.#verifiers.pathinfo!;
  }

  verify(table: string, key: Buffer, row: Buffer): Verdict {
    return this.#verifiers[table]?.(key, row) ?? GOOD;
  }

  /** `onRow` hears of each row of a table. */
  run(onRow: (table: string, key: Buffer) => void): CheckReport {
    for (const { table, from } of this.#gaps)
      this.#structure.push(`pages of ${table} at ${from} cannot be read`);
    for (const name of NEEDED) {
      if (!this.#database.names.includes(name)) this.#structure.push(`the table ${name} is missing`);
    }
    for (const name of this.#database.names) this.#verifyTable(name, onRow);
    // What a collector has taken meanwhile is not damage.
    this.#database.refresh();
    for (const [id, { table, key }] of this.#damages) {
      const bytes = Buffer.from(key, 'hex');
      const row = this.#database.get(table, bytes);
      if (!row || this.verify(table, bytes, Buffer.from(row)).problem === undefined) this.#damages.delete(id);
    }
    return {
      structure: this.#structure,
      damages: [...this.#damages.values()],
      paths: this.#damagedPaths(),
      hidden: this.#hiddenPaths(),
      missing: this.kind === 'store' ? this.#missingPaths() : [],
      objects: this.#objects,
      bytes: this.#bytes,
    };
  }

  #verifyTable(name: string, onRow: (table: string, key: Buffer) => void): void {
    let count = 0;
    let unreachable = 0;
    let ahead = 0;
    for (const { key, value } of this.#database.rows(name)) {
      count++;
      onRow(name, key);
      const { problem, bytes } = this.verify(name, key, value);
      this.#bytes += bytes;
      if (problem !== undefined) {
        const damage = { table: name, key: toHex(key), problem };
        this.#damages.set(`${name}/${damage.key}`, damage);
      }
      if (name in KINDS && value.length >= EPOCH_LENGTH && rowEpoch(value) > this.epoch) ahead++;
      const found = this.#database.get(name, key);
      if (!found || Buffer.compare(found, value) !== 0) unreachable++;
    }
    if (name !== 'meta') this.#objects += count;
    if (unreachable > 0) this.#structure.push(`${unreachable} rows of ${name} are not found by their keys`);
    if (ahead > 0) this.#structure.push(`${ahead} rows of ${name} are of an epoch that has yet to come`);
    const counted = this.#database.count(name);
    if (counted !== count) this.#structure.push(`${name} has ${count} rows, but should have ${counted}`);
  }

  #has(table: string, digest: Uint8Array): boolean {
    return !this.#damages.has(`${table}/${toHex(digest)}`) && this.#database.get(table, digest) !== undefined;
  }

  /** In a cache what is missing is only not there yet. */
  #isBroken(table: string, digest: Uint8Array): boolean {
    return this.kind === 'cache' ? this.#damages.has(`${table}/${toHex(digest)}`) : !this.#has(table, digest);
  }

  #damagedPaths(): DamagedPath[] {
    const paths = new Map<string, DamagedPath>();
    const add = (path: string, hash: string, problems: readonly string[]) => {
      if (problems.length > 0 && !paths.has(hash)) paths.set(hash, { path, hash, problems });
    };
    for (const { key, value } of this.#database.rows('pathinfo')) {
      try {
        const info = parsePathInfoRow(value, key);
        const hash = toHex(info.storePath.hash);
        // A row may be whole, and its key not: then it is found by another name.
        const problems = hash === toHex(key) ? this.#problemsOf(info) : ['its path info is not found'];
        add(info.storePath.absolute(), hash, problems);
      } catch (error) {
        add(unnamed(toHex(key)), toHex(key), [messageOf(error)]);
      }
    }
    for (const { path, hash, problem } of this.kind === 'store' ? this.#lostPaths() : [])
      add(path, hash, [problem]);
    return [...paths.values()];
  }

  #hiddenPaths(): string[] {
    const rows = [...this.#database.rows(CONDEMNED)];
    return rows
      .filter(({ key, value }) => this.verify(CONDEMNED, key, value).problem === undefined)
      .filter(({ key }) => !this.#database.get('pathinfo', key))
      .map(({ key, value }) => parsePathInfoRow(value, key).storePath.absolute());
  }

  /** What path infos refer to, and is not there: copied without its closure, or taken out. */
  #missingPaths(): DamagedPath[] {
    const missing = new Map<string, { path: string; hash: string; problems: string[] }>();
    for (const { key, value } of this.#database.rows('pathinfo')) {
      if (this.verify('pathinfo', key, value).problem !== undefined) continue;
      const { storePath, references } = parsePathInfoRow(value, key);
      for (const reference of references) {
        const hash = toHex(reference.hash);
        if (this.#database.get('pathinfo', reference.hash)) continue;
        const found = missing.get(hash) ?? { path: reference.absolute(), hash, problems: [] };
        missing.set(hash, found);
        if (found.problems.length < MAX_PROBLEMS) found.problems.push(`${storePath.absolute()} refers to it`);
      }
    }
    return [...missing.values()];
  }

  /** Store paths of which something else tells that they should be there. */
  *#lostPaths(): Generator<{ path: string; hash: string; problem: string }> {
    for (const { key, value } of this.#database.rows('root')) {
      if (this.verify('root', key, value).problem !== undefined) continue;
      const { name, storePath } = parseRootRow(key, value);
      if (this.#database.get('pathinfo', storePath.hash)) continue;
      const problem = `it is missing, though the root ${name} names it`;
      yield { path: storePath.absolute(), hash: toHex(storePath.hash), problem };
    }
    // Uses can be left over; but where pages were lost, path infos may have been on them.
    for (const { key } of this.#structure.length > 0 ? this.#database.rows('use') : []) {
      if (key.length !== STORE_PATH_HASH_LENGTH || this.#database.get('pathinfo', key)) continue;
      yield { path: unnamed(toHex(key)), hash: toHex(key), problem: 'it has been used, and is missing' };
    }
  }

  #problemsOf({ node }: PathInfo): string[] {
    const problems: string[] = [];
    const seen = { directories: new DigestMap(), blobs: new DigestMap() };
    const walked: Uint8Array[] = [];
    const note = (table: string, digest: Uint8Array) => {
      const { problem } = this.#damages.get(`${table}/${toHex(digest)}`) ?? { problem: 'it is missing' };
      if (problems.length < MAX_PROBLEMS) problems.push(`${KINDS[table]} ${toHex(digest)}: ${problem}`);
    };
    const walker = new TreeWalker(this.#source, {
      directory: (digest) => {
        if (this.#whole.has(digest) || !seen.directories.set(digest)) return false;
        if (this.#isBroken('directory', digest)) note('directory', digest);
        else if (this.#has('directory', digest)) {
          walked.push(Uint8Array.from(digest));
          return true;
        }
        return false;
      },
      blob: (digest) => seen.blobs.set(digest),
      chunk: (digest) => {
        if (this.#isBroken('chunk', digest)) note('chunk', digest);
      },
      broken: note,
    });
    walker.walkAtOnce(node);
    if (problems.length === 0) for (const digest of walked) this.#whole.set(digest);
    return problems;
  }

  readonly #source: TreeSource = {
    directory: (digest) => this.#database.get('directory', digest)?.subarray(EPOCH_LENGTH),
    manifest: (digest) => {
      const row = this.#database.get('manifest', digest);
      return row && [...parseManifestRow(row, digest)];
    },
    refresh: () => {},
  };
}

/** How a path is called of which only the hash is known. */
function unnamed(hash: string): string {
  return `${STORE_DIR}/${encodeBase32(Buffer.from(hash, 'hex'))}-?`;
}

function checking(check: (key: Buffer, row: Buffer) => void): VerifyRow {
  return (key, row) => {
    try {
      check(key, row);
      return { bytes: row.length };
    } catch (error) {
      return { problem: messageOf(error), bytes: row.length };
    }
  };
}
