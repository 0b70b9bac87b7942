import { createReadStream, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { LocalStore } from '../castore/local/store.ts';
import { STORE_DIR } from '../nix/store-path.ts';
import { wholePathInfo } from '../store/keeping/whole-path-info.ts';
import type { CacheTargetFiles } from '../store/moving/binary-cache-target.ts';
import { BinaryCacheTarget } from '../store/moving/binary-cache-target.ts';
import { CacheFolder } from '../store/moving/cache-folder.ts';
import type { CopyPathsOptions, CopyPlan } from '../store/moving/copy.ts';
import { addSignatures, copyPaths, copyToBinaryCache, planCopy } from '../store/moving/copy.ts';
import { askNix, copyFromFiles, MAX_JSON_LENGTH, planImport } from '../store/moving/nix-store.ts';
import { describeAddress } from '../store/open/address.ts';
import type { Addresses } from '../store/open/open-store.ts';
import { NOWHERE, openStore } from '../store/open/open-store.ts';
import { parseNixJson } from '../store/path-info/nix-json.ts';
import type { PathDescription } from '../store/path-info/path-info.ts';
import type { PathInfoService } from '../store/path-info/service.ts';
import { describePath } from '../store/resolve.ts';
import type { Store } from '../store/services.ts';
import type { CacheAddress } from '../store/substitute/address.ts';
import { parseCaches } from '../store/substitute/address.ts';
import { credentialsFor } from '../store/substitute/netrc.ts';
import { asBuffer, collect, formatSize } from '../util/bytes.ts';
import { invalid, reasonOf, StoreError, UsageError } from '../util/errors.ts';
import type { Chosen } from './chosen-paths.ts';
import type { ReadFlags } from './store-options.ts';
import { addressesOf } from './store-options.ts';

const BINARY_CACHES = /^nix\+(?:file|https?):/;

/** Flags that say what is copied, and between what. */
export interface EndFlags extends ReadFlags {
  readonly from?: string;
  readonly to?: string;
  readonly closure: boolean;
  readonly dryRun?: boolean;
  readonly referenceGraph?: string;
}

/** Where a copy goes. */
export interface Target extends Pick<PathInfoService, 'describe'> {
  copy(from: Store, plan: CopyPlan, options: CopyPathsOptions): Promise<void>;
  /** Adds what the plan says that paths lack in signatures. */
  sign(plan: CopyPlan, signal: AbortSignal): Promise<void>;
  /** From a folder of real files. */
  copyFiles(storeDir: string, plan: CopyPlan, options: CopyPathsOptions): Promise<void>;
  /** Set when it is a local store, which has roots. */
  readonly local?: LocalStore | undefined;
  close(): Promise<void>;
}

/** Where a copy comes from: what there is to copy, and how. */
export interface Source {
  plan(to: Target, signal: AbortSignal): Promise<CopyPlan>;
  copy(to: Target, plan: CopyPlan, options: CopyPathsOptions): Promise<void>;
  /** Set when it is a local store, which has roots. */
  readonly local?: LocalStore | undefined;
  close(): Promise<void>;
}

/** Throws a UsageError for a target that cannot be one, as far as its address tells. */
export function checkTarget({ to }: EndFlags): void {
  if (to !== undefined && BINARY_CACHES.test(to)) onlyCache(to);
  else if (to !== undefined) describeAddress(to);
}

/** The binary cache that an address names. Throws a UsageError, also for several. */
function onlyCache(address: string): CacheAddress {
  const [cache, ...others] = parseCaches(new URL(address));
  if (others.length > 0) throw new UsageError(`${address}: a copy goes to one binary cache`);
  return cache!;
}

export async function openTarget(flags: EndFlags, signal: AbortSignal): Promise<Target> {
  if (flags.to !== undefined && BINARY_CACHES.test(flags.to))
    return binaryCache(flags.to, !flags.dryRun, signal);
  // What is brought there has been checked where it was read.
  const at = { ...addresses(flags.to, flags), trustedKeys: undefined, mirrors: undefined };
  const store = await (flags.dryRun ? openToLook(at) : openStore(at, 'write'));
  return {
    describe: (hash, signal) =>
      flags.dryRun ? store.pathInfos.describe(hash, signal) : wholePathInfo(store, hash, signal),
    copy: (from, plan, options) => copyPaths(from, store, plan, options),
    copyFiles: (storeDir, plan, options) => copyFromFiles(storeDir, store, plan, options),
    sign: (plan, signal) => addSignatures(store, plan, signal),
    local: store.local,
    close: () => store.close(),
  };
}

/** A store that is still to be made has nothing: a dry run does not make it. */
async function openToLook(at: Addresses): Promise<Store> {
  try {
    return await openStore(at, 'read');
  } catch (error) {
    if (!(error instanceof StoreError && error.code === 'NOT_FOUND')) throw error;
    return openStore({ ...at, ...NOWHERE }, 'read');
  }
}

async function binaryCache(address: string, create: boolean, signal: AbortSignal): Promise<Target> {
  const files = await cacheFilesAt(onlyCache(address), signal);
  const cache = await BinaryCacheTarget.open(files, create);
  return {
    describe: (hash) => cache.describe(hash),
    copy: (from, plan, options) => copyToBinaryCache(from, cache, plan, options),
    async sign({ unsigned }) {
      for (const path of unsigned) await cache.addSignatures(path);
    },
    async copyFiles() {
      throw new UsageError(
        `to copy from a Nix store to a binary cache, use Nix: nix copy --to ${address.replace('nix+', '')}`,
      );
    },
    close: () => cache.close(),
  };
}

async function cacheFilesAt(address: CacheAddress, signal: AbortSignal): Promise<CacheTargetFiles> {
  const { place, ca } = address;
  if (typeof place === 'string') return new CacheFolder(place);
  if (!(place instanceof URL)) throw new UsageError('a bucket in the layout of Nix can only be read');
  // Loaded when it is needed: it brings a client of its own.
  const { CacheUpload } = await import('../store/moving/cache-upload.ts');
  return new CacheUpload(place, { credentials: credentialsFor({ ...address, place }), ca }, signal);
}

/** Opens where the chosen store paths are copied from, and finds them; `undefined` stands for those of the reference graph. */
export function openSource(
  chosen: Chosen | undefined,
  flags: EndFlags,
  signal: AbortSignal,
): Promise<Source> {
  const { from, referenceGraph } = flags;
  const storeDir = from ?? (referenceGraph === undefined ? undefined : STORE_DIR);
  if (storeDir?.startsWith('/')) return files(storeDir.replace(/\/+$/, ''), chosen, flags, signal);
  if (chosen === undefined) {
    throw new UsageError('--reference-graph copies real files: --from must be the directory of a Nix store');
  }
  return opened(chosen, flags);
}

async function opened(chosen: Chosen, flags: EndFlags): Promise<Source> {
  const { closure } = flags;
  const from = await openStore(addresses(flags.from, flags), 'read');
  try {
    const roots = await describeAll(from, chosen);
    return {
      plan: (to, signal) => planCopy(from.pathInfos, to, roots, { closure, signal }),
      copy: (to, plan, options) => to.copy(from, plan, options),
      local: from.local,
      close: () => from.close(),
    };
  } catch (error) {
    await from.close();
    throw error;
  }
}

async function describeAll(from: Store, chosen: Chosen): Promise<PathDescription[]> {
  if (chosen !== 'all') return Promise.all(chosen.map((path) => describePath(from, path)));
  const paths: PathDescription[] = [];
  for await (const path of from.pathInfos.list()) paths.push(path);
  return paths;
}

async function files(
  storeDir: string,
  chosen: Chosen | undefined,
  { closure, referenceGraph }: EndFlags,
  signal: AbortSignal,
): Promise<Source> {
  if (!storeDir.endsWith(STORE_DIR)) {
    throw new UsageError(
      `--from ${storeDir}: want a URL, or the directory of a Nix store, which ends in ${STORE_DIR}`,
    );
  }
  const told =
    referenceGraph === undefined
      ? await askNix(storeDir, pathsIn(storeDir, chosen ?? []), { closure, signal })
      : await readGraph(referenceGraph);
  return {
    plan: (to, abort) => planImport(to, told, { closure, signal: abort }),
    copy: (to, plan, options) => to.copyFiles(storeDir, plan, options),
    close: async () => {},
  };
}

function addresses(address: string | undefined, flags: EndFlags): Addresses {
  const { cache, trustedPublicKeys, mirror } = flags;
  return addressesOf(address === undefined ? flags : { store: address, cache, trustedPublicKeys, mirror });
}

/** Store paths as Nix takes them: it does not know bare hashes. Throws NOT_FOUND. */
function pathsIn(storeDir: string, chosen: Chosen): readonly string[] | 'all' {
  if (chosen === 'all') return chosen;
  const isBare = chosen.some(({ name }) => name === undefined);
  const names = isBare ? readdirSync(storeDir) : [];
  return chosen.map(({ name, shown }) => {
    const base = shown.slice(STORE_DIR.length + 1);
    const found = name === undefined ? names.find((one) => one.startsWith(`${base}-`)) : base;
    if (found === undefined || !existsSync(join(storeDir, found))) {
      throw new StoreError('NOT_FOUND', `${base} is not in ${storeDir}`);
    }
    return `${STORE_DIR}/${found}`;
  });
}

/** Throws a UsageError when the file tells of no store paths. */
async function readGraph(file: string): Promise<PathDescription[]> {
  try {
    const text = await collect(file === '-' ? process.stdin : createReadStream(file), MAX_JSON_LENGTH);
    if (!text) throw invalid(`longer than ${formatSize(MAX_JSON_LENGTH)}`);
    return parseNixJson(asBuffer(text).toString());
  } catch (error) {
    throw new UsageError(`--reference-graph ${file} cannot be used: ${reasonOf(error)}`, { cause: error });
  }
}
