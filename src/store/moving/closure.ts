import { STORE_DIR, type StorePath } from '../../nix/store-path.ts';
import { eachOf } from '../../util/async/each-of.ts';
import { latin1 } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import type { PathInfoService } from '../path-info/service.ts';

/** Asked for at once. */
const AT_ONCE = 32;
/** A store that tells of more is not believed. */
const MAX_PATHS = 1 << 20;
/** Named in a message. */
const MAX_NAMED = 10;

/** Store paths and all that they refer to. */
export interface Closure<T extends PathDescription> {
  /** References come before what refers to them, as far as they do not go round. */
  readonly paths: readonly T[];
  /** Referred to, and not there. */
  readonly missing: readonly StorePath[];
}

/** Follows references from `roots` by `get`, which gives `undefined` for what is not there. */
export async function closureOf<T extends PathDescription>(
  roots: readonly T[],
  get: (path: StorePath, signal: AbortSignal) => Promise<T | undefined>,
  signal?: AbortSignal,
): Promise<Closure<T>> {
  const found = new Map(roots.map((root) => [keyOf(root.storePath), root]));
  const missing = new Map<string, StorePath>();
  for (let level: readonly T[] = roots; level.length > 0; ) {
    const next: T[] = [];
    const wanted = new Map<string, StorePath>();
    for (const { references } of level) {
      for (const path of references) {
        const key = keyOf(path);
        if (!found.has(key) && !missing.has(key)) wanted.set(key, path);
      }
    }
    await eachOf(wanted, AT_ONCE, signal, async ([key, path], abort) => {
      const description = await get(path, abort);
      if (description?.storePath.name !== path.name) {
        missing.set(key, path);
        return;
      }
      found.set(key, description);
      next.push(description);
    });
    if (found.size - roots.length + missing.size > MAX_PATHS)
      throw new StoreError('RESOURCE_EXHAUSTED', `a closure of more than ${MAX_PATHS} store paths`);
    level = next;
  }
  return { paths: referencesFirst(roots, found), missing: [...missing.values()].sort(byName) };
}

/** Store paths of a store with all that they refer to, references first. Throws NOT_FOUND when it lacks one. */
export async function closureIn(
  pathInfos: PathInfoService,
  roots: readonly PathInfo[],
  signal?: AbortSignal,
): Promise<readonly PathInfo[]> {
  const { paths, missing } = await closureOf(roots, ({ hash }, abort) => pathInfos.get(hash, abort), signal);
  refuseMissing(missing, 'the store does not have everything that is referred to');
  return paths;
}

/** Throws NOT_FOUND when a part of a closure is not there. */
export function refuseMissing(missing: readonly StorePath[], what: string): void {
  if (missing.length === 0) return;
  const named = missing.slice(0, MAX_NAMED).map((path) => `\n  ${STORE_DIR}/${path}`);
  const more = missing.length > MAX_NAMED ? `\n  and ${missing.length - MAX_NAMED} more` : '';
  throw new StoreError('NOT_FOUND', `${what}:${named.join('')}${more}`);
}

/** Depth first, without recursion: chains of references may be long. */
function referencesFirst<T extends PathDescription>(roots: readonly T[], found: ReadonlyMap<string, T>): T[] {
  const order: T[] = [];
  const seen = new Set<T>();
  const stack: { path: T; next: number }[] = [];
  const enter = (path: T | undefined) => {
    if (!path || seen.has(path)) return;
    seen.add(path);
    stack.push({ path, next: 0 });
  };
  for (const root of roots) {
    enter(found.get(keyOf(root.storePath)));
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const reference = top.path.references[top.next++];
      if (reference) enter(found.get(keyOf(reference)));
      else order.push(stack.pop()!.path);
    }
  }
  return order;
}

function keyOf(path: StorePath): string {
  return latin1(path.hash);
}

function byName(a: StorePath, b: StorePath): number {
  return String(a) < String(b) ? -1 : 1;
}
