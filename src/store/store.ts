import { LocalStore } from '../castore/local/store.ts';
import { UsageError } from '../util/errors.ts';
import type { BackendContext, OpenBackend, Use } from './backends/backend.ts';
import { openGrpc } from './backends/grpc.ts';
import { openLocal } from './backends/local.ts';
import { openMemory } from './backends/memory.ts';
import type { Store } from './services.ts';

/** Where each service is, and the directory for what has to be kept of others'. */
export interface Addresses {
  readonly blobs: string;
  readonly directories: string;
  readonly pathInfos: string;
  readonly cacheDir: string;
}

/** Every kind of store, by the scheme of its address. */
const BACKENDS: Record<string, OpenBackend> = {
  local: openLocal,
  lmdb: openLocal,
  memory: openMemory,
  'grpc+http': openGrpc,
  'grpc+https': openGrpc,
  'grpc+unix': openGrpc,
};

/**
 * Opens the services at these addresses; what is at the same address is opened once. Throws a UsageError for
 * an address that means nothing.
 */
export async function openStore(addresses: Addresses, use: Use): Promise<Store> {
  const opened = new Map<string, Store>();
  let cache: LocalStore | undefined;
  const context: BackendContext = {
    use,
    cache: () => {
      cache ??= LocalStore.openToFill(addresses.cacheDir);
      return cache;
    },
  };
  const open = async (address: string) => {
    const backend = opened.get(address) ?? (await openAddress(address, context));
    opened.set(address, backend);
    return backend;
  };
  const close = async () => {
    for (const backend of opened.values()) await backend.close();
    await cache?.close();
  };
  try {
    const blobs = await open(addresses.blobs);
    const directories = await open(addresses.directories);
    const pathInfos = await open(addresses.pathInfos);
    const local = opened.size === 1 ? blobs.local : undefined;
    return {
      blobs: blobs.blobs,
      directories: directories.directories,
      pathInfos: pathInfos.pathInfos,
      ...(local ? { local } : {}),
      far: pathInfos.far ?? false,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function openAddress(address: string, context: BackendContext): Promise<Store> | Store {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    throw new UsageError(
      `not an address: ${JSON.stringify(address)}, want a URL such as local:///var/lib/tvix-store`,
    );
  }
  const open = BACKENDS[url.protocol.slice(0, -1)];
  if (!open) {
    const known = Object.keys(BACKENDS).map((scheme) => `${scheme}://`);
    throw new UsageError(
      `unknown kind of store in ${JSON.stringify(address)}; known are ${known.join(', ')}`,
    );
  }
  return open(url, context);
}
