import { createReadStream } from 'node:fs';
import { STORE_DIR } from '../nix/store-path.ts';
import { BinaryCacheFolder } from '../store/moving/binary-cache-folder.ts';
import type { CopyPathsOptions, CopyPlan } from '../store/moving/copy.ts';
import { copyPaths, copyToBinaryCache, planCopy } from '../store/moving/copy.ts';
import { askNix, copyFromFiles, MAX_JSON_LENGTH, planImport } from '../store/moving/nix-store.ts';
import type { Addresses } from '../store/open/open-store.ts';
import { openStore } from '../store/open/open-store.ts';
import { parseNixJson } from '../store/path-info/nix-json.ts';
import type { PathInfoService } from '../store/path-info/service.ts';
import { describePath } from '../store/resolve.ts';
import type { Store } from '../store/services.ts';
import { asBuffer, collect, formatSize } from '../util/bytes.ts';
import { invalid, StoreError, UsageError } from '../util/errors.ts';
import { directoryOf } from '../util/url.ts';
import type { StoreFlags } from './store-options.ts';
import { addressesOf } from './store-options.ts';

const BINARY_CACHE = 'nix+file:';

/** Flags that say what is copied, and between what. */
export interface EndFlags extends StoreFlags {
  readonly from?: string;
  readonly to?: string;
  readonly closure: boolean;
  readonly dryRun?: boolean;
  readonly referenceGraph?: string;
}

/** Where a copy goes. */
export interface Target extends Pick<PathInfoService, 'describe'> {
  copy(from: Store, plan: CopyPlan, options: CopyPathsOptions): Promise<void>;
  /** From a folder of real files. */
  copyFiles(storeDir: string, plan: CopyPlan, options: CopyPathsOptions): Promise<void>;
  close(): Promise<void>;
}

/** Where a copy comes from: what there is to copy, and how. */
export interface Source {
  plan(signal: AbortSignal): Promise<CopyPlan>;
  copy(plan: CopyPlan, options: CopyPathsOptions): Promise<void>;
  close(): Promise<void>;
}

export async function openTarget(flags: EndFlags): Promise<Target> {
  if (flags.to?.startsWith(BINARY_CACHE)) return binaryCache(flags.to, !flags.dryRun);
  const at = addresses(flags.to, flags);
  const store = await (flags.dryRun ? openToLook(at) : openStore(at, 'write'));
  return {
    describe: (hash, signal) => store.pathInfos.describe(hash, signal),
    copy: (from, plan, options) => copyPaths(from, store, plan, options),
    copyFiles: (storeDir, plan, options) => copyFromFiles(storeDir, store, plan, options),
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

const NOWHERE = { blobs: 'memory://', directories: 'memory://', pathInfos: 'memory://' };

async function binaryCache(address: string, create: boolean): Promise<Target> {
  const dir = directoryOf(new URL(address), 'nix+file:///srv/cache');
  const cache = await BinaryCacheFolder.open(dir, create);
  return {
    describe: (hash) => cache.describe(hash),
    copy: (from, plan, options) => copyToBinaryCache(from, cache, plan, options),
    async copyFiles() {
      throw new UsageError(`from a Nix store to a binary cache goes nix copy --to file://${dir}`);
    },
    close: async () => {},
  };
}

export function openSource(names: readonly string[], flags: EndFlags, to: Target): Promise<Source> {
  const { from, referenceGraph } = flags;
  const storeDir = from ?? (referenceGraph === undefined ? undefined : STORE_DIR);
  if (storeDir?.startsWith('/')) return files(storeDir.replace(/\/+$/, ''), names, flags, to);
  if (referenceGraph !== undefined)
    throw new UsageError(
      '--reference-graph copies real files: --from takes the directory of a Nix store then',
    );
  return opened(names, flags, to);
}

async function opened(names: readonly string[], flags: EndFlags, to: Target): Promise<Source> {
  const { closure } = flags;
  const from = await openStore(addresses(flags.from, flags), 'read');
  return {
    plan: async (signal) =>
      planCopy(from.pathInfos, to, await Promise.all(names.map((name) => describePath(from, name))), {
        closure,
        signal,
      }),
    copy: (plan, options) => to.copy(from, plan, options),
    close: () => from.close(),
  };
}

async function files(
  storeDir: string,
  names: readonly string[],
  { closure, referenceGraph }: EndFlags,
  to: Target,
): Promise<Source> {
  if (!storeDir.endsWith(STORE_DIR)) {
    throw new UsageError(
      `--from ${storeDir}: want a URL, or the directory of a Nix store, which ends in ${STORE_DIR}`,
    );
  }
  return {
    async plan(signal) {
      const told =
        referenceGraph === undefined
          ? await askNix(storeDir, names.map(absolute), { closure, signal })
          : parseNixJson(await readJson(referenceGraph));
      return planImport(to, told, { closure, signal });
    },
    copy: (plan, options) => to.copyFiles(storeDir, plan, options),
    close: async () => {},
  };
}

function addresses(address: string | undefined, flags: EndFlags) {
  if (address === undefined) return addressesOf(flags);
  return { blobs: address, directories: address, pathInfos: address, cacheDir: flags.cache };
}

/** As Nix takes it: it knows no bare hashes. */
function absolute(name: string): string {
  return name.startsWith('/') ? name : `${STORE_DIR}/${name}`;
}

async function readJson(file: string): Promise<string> {
  const text = await collect(file === '-' ? process.stdin : createReadStream(file), MAX_JSON_LENGTH);
  if (!text) throw invalid(`${file} is longer than ${formatSize(MAX_JSON_LENGTH)}`);
  return asBuffer(text).toString();
}
