import { latin1 } from '../../../util/bytes.ts';
import type { Closure } from '../../moving/closure.ts';
import { closureOf } from '../../moving/closure.ts';
import type { PathDescription } from '../../path-info/path-info.ts';
import { hasContents } from '../../path-info/path-info.ts';
import type { Store } from '../../services.ts';
import { nodeOf, SideFileTable } from '../../side-files/table.ts';
import type { OnPart, TreeParts } from './parts.ts';
import { partsAt, partsIn } from './parts.ts';
import { OwnSums, Sum } from './sums.ts';

/** What a store path takes, in bytes. */
export interface PathUse {
  readonly path: string;
  readonly narSize: number;
  /** Directories and chunks, each once; unknown of a store that gives paths as a whole. */
  readonly contents?: number | undefined;
  /** Of these, what no other store path refers to; known when all of the store has been looked at. */
  readonly own?: number | undefined;
  /** It and all that it refers to, unless it was one of all. */
  readonly closure?: ClosureUse;
  /** Whether all of it is there, as far as that is known. */
  readonly isWhole: boolean;
}

export interface ClosureUse {
  readonly paths: number;
  /** Referred to, and not there. */
  readonly missing: number;
  readonly narSize: number;
  readonly contents?: number | undefined;
}

export interface DiskUse {
  readonly paths: readonly PathUse[];
  /** Of all of them together; what they share is counted once. */
  readonly narSize: number;
  readonly contents?: number | undefined;
}

/** Adds up what all store paths take: those first that have most to themselves. */
export async function useOfAll(store: Store, onProgress: () => void): Promise<DiskUse> {
  const parts = partsOf(store);
  const [owns, total] = [new OwnSums(), new Sum()];
  const paths: Omit<PathUse, 'own'>[] = [];
  for await (const { storePath, narSize, node } of store.pathInfos.list()) {
    onProgress();
    const contents = new Sum();
    const isWhole = await parts(node, (digest, bytes) => {
      for (const sum of [contents, total]) sum.add(digest, bytes);
      owns.add(paths.length, digest, bytes);
    });
    paths.push({ path: storePath.absolute(), narSize: Number(narSize), contents: contents.bytes, isWhole });
  }
  await addSideFiles(store, parts, (digest, bytes) => owns.add(paths.length, digest, bytes));
  const rows = paths.map((path, i) => ({ ...path, own: owns.of(i) }));
  return {
    paths: rows.sort((a, b) => b.own - a.own || b.contents! - a.contents!),
    narSize: sumOf(rows),
    contents: total.bytes,
  };
}

/** The figures of a store path, while they are being added up. */
interface Figures {
  readonly info: PathDescription;
  readonly references: Closure<PathDescription>;
  readonly contents: Sum;
  readonly closure: Sum;
  isWhole: boolean;
}

/**
 * Adds up what some store paths and their closures take. Of a store that is elsewhere it asks for path infos, directories and
 * chunk lists alone. Of a local one it looks at all store paths, to learn what is shared.
 */
export async function useOf(
  store: Store,
  roots: readonly PathDescription[],
  onProgress: () => void,
): Promise<DiskUse> {
  const parts = partsOf(store);
  const figures: Figures[] = [];
  /** By the hash of a store path, those in whose closures it is. */
  const users = new Map<string, { readonly info: PathDescription; readonly of: Figures[] }>();
  for (const info of roots) {
    const references = await closureOf([info], ({ hash }, signal) => store.pathInfos.describe(hash, signal));
    const one = { info, references, contents: new Sum(), closure: new Sum(), isWhole: true };
    figures.push(one);
    for (const path of references.paths) {
      const key = latin1(path.storePath.hash);
      const user = users.get(key);
      if (user) user.of.push(one);
      else users.set(key, { info: path, of: [one] });
    }
  }
  const [owns, total] = [new OwnSums(), new Sum()];
  const owners = new Map([...users.keys()].map((key, i) => [key, i]));
  for (const [key, { info, of }] of users) {
    onProgress();
    if (store.paths || !hasContents(info)) continue;
    const own = of.filter((one) => latin1(one.info.storePath.hash) === key);
    const sums = [...of.map(({ closure }) => closure), ...own.map(({ contents }) => contents)];
    if (own.length > 0) sums.push(total);
    const isWhole = await parts(info.node, (digest, bytes) => {
      for (const sum of sums) sum.add(digest, bytes);
      owns.add(owners.get(key)!, digest, bytes);
    });
    for (const one of own) one.isWhole = isWhole;
  }
  if (store.local) await addOthers(store, owners, owns, parts, onProgress);
  const known = (sum: number) => (store.paths ? undefined : sum);
  return {
    paths: figures.map(({ info, references, contents, closure, isWhole }) => ({
      path: info.storePath.absolute(),
      narSize: Number(info.narSize),
      contents: known(contents.bytes),
      own: store.local && owns.of(owners.get(latin1(info.storePath.hash))!),
      isWhole,
      closure: {
        paths: references.paths.length,
        missing: references.missing.length,
        narSize: sumOf(references.paths),
        contents: known(closure.bytes),
      },
    })),
    narSize: sumOf(roots),
    contents: known(total.bytes),
  };
}

function partsOf(store: Store): TreeParts {
  return store.local ? partsIn(store.local.reader) : partsAt(store);
}

/** What nobody has to himself since others have it, too: all other store paths of a local store, and what goes with them. */
async function addOthers(
  store: Store,
  owners: ReadonlyMap<string, number>,
  owns: OwnSums,
  parts: TreeParts,
  onProgress: () => void,
): Promise<void> {
  const shared: OnPart = (digest, bytes) => owns.add(owners.size, digest, bytes);
  for await (const { storePath, node } of store.pathInfos.list()) {
    if (owners.has(latin1(storePath.hash))) continue;
    onProgress();
    await parts(node, shared);
  }
  await addSideFiles(store, parts, shared);
}

async function addSideFiles({ local }: Store, parts: TreeParts, onPart: OnPart): Promise<void> {
  if (!local) return;
  for await (const file of new SideFileTable(local).all()) await parts(nodeOf(file), onPart);
}

function sumOf(paths: readonly { readonly narSize: number | bigint }[]): number {
  return paths.reduce((sum, { narSize }) => sum + Number(narSize), 0);
}
