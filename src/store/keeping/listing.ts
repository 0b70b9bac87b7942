import { UsageError } from '../../util/errors.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { Store } from '../services.ts';
import { UseTable } from './uses.ts';

/** The facts about a store path that lists are sorted by. */
export interface PathFacts {
  /** Length of the NAR in bytes. */
  readonly narSize: number;
  /** When it was added and last used, in seconds since 1970, as far as a local store knows. */
  readonly added?: number;
  readonly used?: number;
}

export const SORT_KEYS = ['name', 'size', 'added', 'used'] as const;
export type SortKey = (typeof SORT_KEYS)[number];

type ListedPath = Pick<PathInfo, 'storePath' | 'node'> & PathFacts;

/** The store paths of a store with what is known of them. Throws a UsageError for times that it does not know. */
export async function* listed(store: Store, sort?: SortKey): AsyncGenerator<ListedPath> {
  const uses = store.local && new UseTable(store.local.env);
  if (!uses && (sort === 'added' || sort === 'used'))
    throw new UsageError(`--sort ${sort}: only a local store knows when its store paths were ${sort}`);
  const all = async function* () {
    for await (const { storePath, node, narSize } of store.pathInfos.list()) {
      const { time, added } = uses?.get(storePath.hash) ?? { time: 0, added: 0 };
      const times = { ...(added > 0 ? { added } : {}), ...(time > 0 ? { used: time } : {}) };
      yield { storePath, node, narSize: Number(narSize), ...times };
    }
  };
  if (sort) yield* (await Array.fromAsync(all())).sort(ORDERS[sort]);
  else yield* all();
}

const byName = (a: ListedPath, b: ListedPath) =>
  compare(a.storePath.name, b.storePath.name) || compare(String(a.storePath), String(b.storePath));

const ORDERS: Record<SortKey, (a: ListedPath, b: ListedPath) => number> = {
  name: byName,
  size: (a, b) => b.narSize - a.narSize || byName(a, b),
  added: (a, b) => (b.added ?? 0) - (a.added ?? 0) || byName(a, b),
  used: (a, b) => (b.used ?? 0) - (a.used ?? 0) || byName(a, b),
};

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
