import { parseCheckedRow } from '../../../castore/local/checked-row.ts';
import { DigestMap } from '../../../castore/local/digest-map.ts';
import { FORMAT } from '../../../castore/local/format.ts';
import type { Gap, RawDatabase } from '../../../castore/local/raw-database.ts';
import { keyBehind } from '../../../castore/local/raw-database.ts';
import { EPOCH_LENGTH, parseManifestRow, sealedBody } from '../../../castore/local/rows.ts';
import type { Verdict, VerifyRow } from '../../../castore/local/verify.ts';
import { castoreVerifiers } from '../../../castore/local/verify.ts';
import type { TreeSource } from '../../../castore/local/walk.ts';
import { TreeWalker } from '../../../castore/local/walk.ts';
import type { Node } from '../../../castore/node.ts';
import { STORE_PATH_HASH_LENGTH, unnamedPath } from '../../../nix/store-path.ts';
import { toHex } from '../../../util/bytes.ts';
import { messageOf } from '../../../util/errors.ts';
import { parseNarRow } from '../../nar/index.ts';
import { parsePathInfoRow } from '../../path-info/local.ts';
import { PROFILE, parseProfileRow } from '../../profile/table.ts';
import { nodeOf, parseSideFileRow, SIDE_FILE } from '../../side-files/table.ts';
import { CONDEMNED } from '../condemned.ts';
import { parseRootRow } from '../roots.ts';
import type { CheckReport, Damage, DamagedPath, Position, VerifyTask } from './report.ts';
import { epochOf } from './structure.ts';
import { Throttle } from './throttle.ts';

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
    const epoch = epochOf(database);
    const kind = meta('kind');
    if (meta('format') !== String(FORMAT)) this.#structure.push('the format is damaged');
    if (epoch === 0) this.#structure.push('the epoch is damaged');
    if (kind !== 'store' && kind !== 'cache') this.#structure.push('the kind is damaged');
    this.epoch = Math.max(1, epoch);
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
      [SIDE_FILE]: checking((key, row) => {
        const node = nodeOf(parseSideFileRow(row, key.toString()));
        const problem = this.kind === 'store' ? this.#problemsOf(node)[0] : undefined;
        if (problem !== undefined) throw new Error(problem);
      }),
      [PROFILE]: checking((key, row) => parseProfileRow(row, key)),
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
  run(
    { structure, from, known = [], ...pace }: VerifyTask,
    onRow: (table: string, key: Buffer) => void,
  ): CheckReport {
    this.#structure.push(...structure);
    for (const { table, from: at } of this.#gaps)
      this.#structure.push(`pages of ${table} at ${at} cannot be read`);
    for (const name of NEEDED) {
      if (!this.#database.names.includes(name)) this.#structure.push(`the table ${name} is missing`);
    }
    for (const damage of known) this.#note(damage);
    const next = this.#verifyRows(from, new Throttle(pace), onRow);
    // What a collector has taken meanwhile is not damage.
    this.#database.refresh();
    for (const [id, { table, key }] of this.#damages) {
      const bytes = Buffer.from(key, 'hex');
      const row = this.#database.get(table, bytes);
      if (!row || this.verify(table, bytes, Buffer.from(row)).problem === undefined) this.#damages.delete(id);
    }
    const lacks = next === undefined && this.kind === 'store';
    return {
      structure: this.#structure,
      damages: [...this.#damages.values()],
      // All trees are walked for it, which a check that goes on another day does only with reason.
      paths: next === undefined || this.#damages.size > 0 ? this.#damagedPaths() : [],
      hidden: this.#hiddenPaths(),
      missing: lacks ? this.#missingPaths() : [],
      objects: this.#objects,
      bytes: this.#bytes,
      total: this.#tables().reduce((sum, name) => sum + this.#database.count(name), 0),
      next,
    };
  }

  #tables(): readonly string[] {
    return this.#database.names.filter((name) => name !== 'meta');
  }

  /** Gives where it stopped, if it did not come to the end. */
  #verifyRows(
    from: Position | undefined,
    throttle: Throttle,
    onRow: (table: string, key: Buffer) => void,
  ): Position | undefined {
    for (const table of this.#tables()) {
      if (from && table < from.table) continue;
      let key: string | undefined = table === from?.table ? from.key : '';
      while (key !== undefined) {
        if (throttle.isOver) return { table, key };
        key = this.#verifySlice(table, key, throttle, onRow);
        // Nothing is read while it waits: so the database may use its old pages again.
        this.#database.refresh();
        throttle.rest();
      }
    }
    return undefined;
  }

  /** Some rows from a key on; gives the key behind them, if there may be more. */
  #verifySlice(
    table: string,
    first: string,
    throttle: Throttle,
    onRow: (table: string, key: Buffer) => void,
  ): string | undefined {
    for (const { key, value } of this.#database.rows(table, { first })) {
      onRow(table, key);
      const { problem, bytes } = this.verify(table, key, value);
      this.#objects++;
      this.#bytes += bytes;
      if (problem !== undefined) this.#note({ table, key: toHex(key), problem });
      if (throttle.isDue(bytes)) return keyBehind(key);
    }
    return undefined;
  }

  #note(damage: Damage): void {
    this.#damages.set(`${damage.table}/${damage.key}`, damage);
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
        const problems = hash === toHex(key) ? this.#problemsOf(info.node) : ['its path info is not found'];
        add(info.storePath.absolute(), hash, problems);
      } catch (error) {
        add(unnamedPath(key), toHex(key), [messageOf(error)]);
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
      yield { path: unnamedPath(key), hash: toHex(key), problem: 'it has been used, and is missing' };
    }
  }

  #problemsOf(node: Node): string[] {
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
