import type { Environment } from '../../castore/local/environment.ts';
import { pinnedPaths } from '../../castore/local/pins.ts';
import type { Root } from './roots.ts';
import { isExpired, RootTable } from './roots.ts';
import { now, UseTable } from './uses.ts';

/** What holds a store path by itself, against a collection. */
export type Holder =
  | { readonly kind: 'root'; readonly root: Root }
  | { readonly kind: 'mount'; readonly pid: string }
  | { readonly kind: 'writer' }
  | { readonly kind: 'use' | 'upload'; readonly secondsAgo: number };

/** A holder in words, for "held by …". */
export function describeHolder(holder: Holder): string {
  switch (holder.kind) {
    case 'root':
      return `the root ${holder.root.name}`;
    case 'mount':
      return `the mount of process ${holder.pid}`;
    case 'writer':
      return 'a process that writes';
    default:
      return `its ${holder.kind} ${holder.secondsAgo} s ago`;
  }
}

interface Held {
  readonly hash: Uint8Array;
  readonly holder: Holder;
}

/** Those that roots hold. */
export function* heldByRoots(roots: Iterable<Root>): Generator<Held> {
  for (const root of roots)
    if (!isExpired(root)) yield { hash: root.storePath.hash, holder: { kind: 'root', root } };
}

/** Those that running mounts hold. */
export function* heldByMounts(env: Environment): Generator<Held> {
  for (const { hash, pid } of pinnedPaths(env)) yield { hash, holder: { kind: 'mount', pid } };
}

/** What has been written or asked for of late holds a store path of a local store. */
export class RecentUses {
  readonly #uses: UseTable;
  readonly #cutoff: number;
  readonly #olderThan: number;

  /** `cutoff` is that of the collection; `olderThan` is in seconds. */
  constructor(env: Environment, cutoff: number, olderThan: number) {
    this.#uses = new UseTable(env);
    this.#cutoff = cutoff;
    this.#olderThan = olderThan;
  }

  holder(hash: Uint8Array): Holder | undefined {
    const { epoch, time } = this.#uses.get(hash);
    if (epoch >= this.#cutoff) return { kind: 'writer' };
    return recently('use', now() - time, this.#olderThan);
  }
}

/** The holder that something is which happened so many seconds ago, unless that is too long ago. */
export function recently(kind: 'use' | 'upload', age: number, olderThan: number): Holder | undefined {
  const secondsAgo = Math.max(0, Math.round(age));
  return secondsAgo < olderThan ? { kind, secondsAgo } : undefined;
}

/** All that holds store paths of a local store besides uses. */
export function* heldByName(env: Environment): Generator<Held> {
  yield* heldByRoots(new RootTable(env).list());
  yield* heldByMounts(env);
}
