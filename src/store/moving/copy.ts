import type { CopyOptions, TreeCopier } from '../../castore/copy/copier.ts';
import { LocalTreeCopier } from '../../castore/copy/local.ts';
import { ServiceTreeCopier } from '../../castore/copy/services.ts';
import { fingerprint } from '../../nix/signature.ts';
import type { StorePath } from '../../nix/store-path.ts';
import { eachOf } from '../../util/async/each-of.ts';
import { asBuffer, latin1 } from '../../util/bytes.ts';
import { damaged, isDamage, type StoreError } from '../../util/errors.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import type { PathInfoService } from '../path-info/service.ts';
import { united } from '../path-info/united.ts';
import type { Store } from '../services.ts';
import { SideFilesByOwner } from '../side-files/by-owner.ts';
import type { BinaryCacheTarget } from './binary-cache-target.ts';
import { closureOf, refuseMissing } from './closure.ts';
import { register } from './import.ts';
import { keepingMeanwhile } from './keep-meanwhile.ts';

/** Path infos asked for at once. */
const ASKED_AT_ONCE = 32;
/** Store paths on their way at once. */
const COPIED_AT_ONCE = 4;
/** Between local stores they are copied one after another, but many are committed at once. */
const COMMITTED_AT_ONCE = 64;

/** The store paths of a copy. */
export interface CopyPlan<T extends PathDescription = PathDescription> {
  /** Paths that the target lacks; references come before the paths that refer to them. */
  readonly paths: readonly T[];
  /** Paths that the target has. */
  readonly present: readonly T[];
  /** Of those, the ones of which the target lacks signatures. */
  readonly unsigned: readonly T[];
}

/** Tells what a store has. */
type Describing = Pick<PathInfoService, 'describe'>;

/** How a copy is watched. */
export interface CopyPathsOptions extends CopyOptions {
  /** Called for each store path that is durable. */
  readonly onCopied?: (path: PathDescription) => void;
  /** Called for each one that its store does not have whole: then the others are copied all the same. */
  readonly onFailed?: (path: PathDescription, error: StoreError) => void;
}

/**
 * Finds the paths to copy so that the target has these store paths, with all that they refer to if `closure`.
 * What the target describes is taken to be complete. Throws NOT_FOUND, and names it all, for what neither store has.
 */
export async function planCopy(
  from: Describing,
  to: Describing,
  roots: readonly PathDescription[],
  { closure = true, signal }: { closure?: boolean; signal?: AbortSignal } = {},
): Promise<CopyPlan> {
  const find = async ({ hash }: StorePath, abort: AbortSignal) =>
    closure ? from.describe(hash, abort) : undefined;
  const { paths, missing } = await closureOf(roots, find, signal);
  return withoutPresent(to, { paths, missing: closure ? missing : [] }, signal);
}

/** Leaves out what a store has. */
export async function withoutPresent<T extends PathDescription>(
  to: Describing,
  { paths, missing }: { readonly paths: readonly T[]; readonly missing: readonly StorePath[] },
  signal?: AbortSignal,
): Promise<CopyPlan<T>> {
  const there = new Map<string, PathDescription>();
  const wanted = [...paths.map(({ storePath }) => storePath), ...missing];
  await eachOf(wanted, ASKED_AT_ONCE, signal, async ({ hash, name }, abort) => {
    const present = await to.describe(hash, abort);
    if (present?.storePath.name === name) there.set(latin1(hash), present);
  });
  const isThere = ({ hash }: StorePath) => there.has(latin1(hash));
  refuseMissing(
    missing.filter((path) => !isThere(path)),
    'neither store has what is referred to (--no-closure copies without)',
  );
  const present = paths.filter(({ storePath }) => isThere(storePath));
  return {
    paths: paths.filter(({ storePath }) => !isThere(storePath)),
    present,
    unsigned: present.filter((path) => hasMoreSignatures(path, there.get(latin1(path.storePath.hash))!)),
  };
}

/** Whether signatures of a path as it is elsewhere would be right here, and are not there. */
function hasMoreSignatures(path: PathDescription, present: PathDescription): boolean {
  const { signatures } = united(present, { ...present, signatures: path.signatures });
  return signatures.length > present.signatures.length && fingerprint(path) === fingerprint(present);
}

/** Adds signatures to paths that a store has. */
export async function addSignatures(to: Store, { unsigned }: CopyPlan, signal?: AbortSignal): Promise<void> {
  await eachOf(unsigned, ASKED_AT_ONCE, signal, async ({ storePath, signatures }, abort) => {
    const info = await to.pathInfos.get(storePath.hash, abort);
    if (info) await register(to, { ...info, signatures }, abort);
  });
}

/**
 * Copies the paths of a plan: the contents, then the path info, which goes when those that it refers to have
 * gone. So whatever is cut short leaves complete store paths with all their references, and what has gone
 * does not go again.
 */
export async function copyPaths(
  from: Store,
  to: Store,
  plan: CopyPlan,
  { onCopied, onFailed, ...options }: CopyPathsOptions = {},
): Promise<void> {
  const isLocal = from.local !== undefined && to.local !== undefined;
  const copier = copierFor(from, to, options);
  const atOnce = isLocal ? COMMITTED_AT_ONCE : COPIED_AT_ONCE;
  const work = {
    async send(path: PathDescription, signal: AbortSignal) {
      try {
        const info = await contentsOf(from, path, signal);
        await copier.copy(info.node, signal);
        return info;
      } catch (error) {
        if (!onFailed || !isDamage(error)) throw error;
        onFailed(path, error);
        return undefined;
      }
    },
    async name(info: PathInfo, signal: AbortSignal) {
      await register(to, info, signal);
      onCopied?.(info);
    },
  };
  await keepingMeanwhile(to, () => inOrder(plan.paths, atOnce, options.signal, work));
}

/** Copies the paths of a plan into a binary cache, as `copyPaths` does into a store, with the logs and realisations that belong to them. */
export async function copyToBinaryCache(
  from: Store,
  to: BinaryCacheTarget,
  plan: CopyPlan,
  { onCopied, ...options }: Omit<CopyPathsOptions, 'onFailed'> = {},
): Promise<void> {
  const sideFiles = from.local && (await SideFilesByOwner.of(from.local));
  await inOrder(plan.paths, COPIED_AT_ONCE, options.signal, {
    async send(path, signal) {
      const info = await contentsOf(from, path, signal);
      await to.putNar(from, info, { ...options, signal });
      return info;
    },
    async name(info) {
      await to.putNarInfo(info);
      for (const [name, contents] of sideFiles?.for(info) ?? []) await to.putSideFile(name, contents);
      onCopied?.(info);
    },
  });
}

/**
 * Sends many paths at once, and names each when those that it refers to have been named. One for which `send` gives
 * nothing is left out.
 */
export async function inOrder<T extends PathDescription>(
  paths: readonly T[],
  atOnce: number,
  signal: AbortSignal | undefined,
  work: {
    send(path: T, signal: AbortSignal): Promise<PathInfo | undefined>;
    name(info: PathInfo, signal: AbortSignal): Promise<void>;
  },
): Promise<void> {
  const named = new Map<string, Promise<void>>();
  await eachOf(paths, atOnce, signal, (path, abort) => {
    // Only those that come earlier are waited for: each of them has begun.
    const before = path.references.map(({ hash }) => named.get(latin1(hash)));
    const one = (async () => {
      const info = await work.send(path, abort);
      await Promise.all(before);
      if (info) await work.name(info, abort);
    })();
    named.set(latin1(path.storePath.hash), one);
    return one;
  });
}

function copierFor(from: Store, to: Store, options: CopyOptions): TreeCopier {
  return from.local && to.local
    ? new LocalTreeCopier(from.local, to.local, options)
    : new ServiceTreeCopier(from, to, options);
}

/** The path info of what has been described. */
export async function contentsOf(from: Store, path: PathDescription, signal: AbortSignal): Promise<PathInfo> {
  if ('node' in path) return path as PathInfo;
  const info = await from.pathInfos.get(path.storePath.hash, signal);
  if (!info || !asBuffer(info.narSha256).equals(path.narSha256)) {
    throw damaged(`${path.storePath} is not what its store said it was`);
  }
  return info;
}
