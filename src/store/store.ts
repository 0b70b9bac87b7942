import { LocalBlobService } from '../castore/blob/local.ts';
import { MemoryBlobService } from '../castore/blob/memory.ts';
import type { BlobService } from '../castore/blob/service.ts';
import { LocalDirectoryService } from '../castore/directory/local.ts';
import { MemoryDirectoryService } from '../castore/directory/memory.ts';
import type { DirectoryService } from '../castore/directory/service.ts';
import { LocalStore } from '../castore/local/store.ts';
import { UsageError } from '../util/errors.ts';
import { LocalPathInfoService } from './path-info/local.ts';
import { MemoryPathInfoService } from './path-info/memory.ts';
import type { PathInfoService } from './path-info/service.ts';

/** The three services that make a store. */
export interface Services {
  readonly blobs: BlobService;
  readonly directories: DirectoryService;
  readonly pathInfos: PathInfoService;
}

/** An opened store. */
export interface Store extends Services {
  /** Set when all three services are those of one local store. */
  readonly local?: LocalStore;
  /** Whether path infos are on another machine, so that asking first is cheaper than sending. */
  readonly far?: boolean;
  close(): Promise<void>;
}

/** Where each service is. */
export interface Addresses {
  readonly blobs: string;
  readonly directories: string;
  readonly pathInfos: string;
}

/** Makes the services that an address stands for; all those of one address share what is behind it. */
interface Backend extends Services {
  readonly local?: LocalStore;
  readonly far?: boolean;
  close(): Promise<void>;
}

const BACKENDS: Record<string, (url: URL, use: Use) => Promise<Backend> | Backend> = {
  local: openLocal,
  lmdb: openLocal,
  memory: openMemory,
  'grpc+http': openGrpc,
  'grpc+https': openGrpc,
  'grpc+unix': openGrpc,
};

/** What a store is opened for: only one that may be written to is made where there is none. */
export type Use = 'read' | 'write';

/** Opens the services at these addresses. Throws INVALID_ARGUMENT for an address that means nothing. */
export async function openStore(addresses: Addresses, use: Use): Promise<Store> {
  const opened = new Map<string, Backend>();
  const open = async (address: string) => {
    const backend = opened.get(address) ?? (await openAddress(address, use));
    opened.set(address, backend);
    return backend;
  };
  const close = async () => {
    for (const backend of opened.values()) await backend.close();
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

function openAddress(address: string, use: Use): Promise<Backend> | Backend {
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
  return open(url, use);
}

/** Refuses whatever a URL has besides `allowed`. */
function restrict(
  url: URL,
  allowed: { host?: boolean; path?: boolean; parameters?: readonly string[] },
): void {
  if (url.host && !allowed.host) throw new UsageError(`${url.href}: a host has no meaning here`);
  if (url.pathname !== '' && !allowed.path) throw new UsageError(`${url.href}: a path has no meaning here`);
  const parameters = allowed.parameters ?? [];
  for (const name of url.searchParams.keys()) {
    if (parameters.includes(name)) continue;
    const hint = parameters.length > 0 ? `allowed are ${parameters.join(', ')}` : 'none are allowed';
    throw new UsageError(`${url.href}: unknown parameter ${JSON.stringify(name)}; ${hint}`);
  }
}

function openLocal(url: URL, use: Use): Backend {
  restrict(url, { path: true });
  const dir = decodeURIComponent(url.pathname);
  if (dir === '' || dir === '/')
    throw new UsageError(`${url.href}: name a directory, as in local:///var/lib/tvix-store`);
  return localBackend(LocalStore.open(dir, use === 'write' ? 'store' : undefined));
}

/** The services of an opened local store. */
export function localBackend(local: LocalStore): Store & { local: LocalStore } {
  return {
    blobs: new LocalBlobService(local),
    directories: new LocalDirectoryService(local),
    pathInfos: new LocalPathInfoService(local),
    local,
    close: () => local.close(),
  };
}

async function openGrpc(url: URL): Promise<Backend> {
  // Loaded when it is needed: a mount of a local store does without.
  const { dial, GRPC_PARAMETERS } = await import('../proto/grpc/dial.ts');
  const { GrpcBlobService } = await import('../castore/blob/grpc.ts');
  const { GrpcDirectoryService } = await import('../castore/directory/grpc.ts');
  const { GrpcPathInfoService } = await import('./path-info/grpc.ts');
  restrict(url, { host: true, path: true, parameters: GRPC_PARAMETERS });
  const channel = await dial(url);
  return {
    blobs: new GrpcBlobService(channel),
    directories: new GrpcDirectoryService(channel),
    pathInfos: new GrpcPathInfoService(channel),
    far: true,
    close: async () => channel.close(),
  };
}

function openMemory(url: URL): Backend {
  restrict(url, {});
  return {
    blobs: new MemoryBlobService(),
    directories: new MemoryDirectoryService(),
    pathInfos: new MemoryPathInfoService(),
    close: async () => {},
  };
}
