import { UsageError } from '../../util/errors.ts';
import type { OpenedStore, Services, Store } from '../services.ts';
import type { Part } from './assemble.ts';
import { assemble } from './assemble.ts';
import type { BackendContext, OpenBackend, Use } from './backends/backend.ts';
import { takeParameter } from './backends/backend.ts';
import { openGrpc } from './backends/grpc.ts';
import { openCache, openCombined } from './backends/layered.ts';
import { directoryOf, openLocal } from './backends/local.ts';
import { openMemory } from './backends/memory.ts';
import { openNix } from './backends/nix.ts';
import { openObjectStore } from './backends/objectstore.ts';
import { Opener } from './opener.ts';

/** Where each service is, and the directory for what has to be kept of others'. */
export interface Addresses {
  readonly blobs: string;
  readonly directories: string;
  readonly pathInfos: string;
  readonly cacheDir: string;
  /** A file that tells where, in place of the addresses. */
  readonly composition?: string | undefined;
}

/** Every kind of store, by the scheme of its address. */
const BACKENDS: Record<string, OpenBackend> = {
  local: openLocal,
  lmdb: openLocal,
  memory: openMemory,
  'grpc+http': openGrpc,
  'grpc+https': openGrpc,
  'grpc+unix': openGrpc,
  'nix+http': openNix,
  'nix+https': openNix,
  'nix+file': openNix,
  cache: openCache,
  combined: openCombined,
  'objectstore+s3': openObjectStore,
  'objectstore+file': openObjectStore,
  'objectstore+memory': openObjectStore,
};

/** Parameters that hold secrets, and what they are; also in an address that is itself a parameter. */
const SECRET =
  /((?:[?&]|%26|%3f)(?:(?!%3d|%26)[^=&])*(?:access_key|secret|token|substituter)(?:(?!%3d|%26)[^=&])*(?:=|%3d))(?:(?!%26)[^&])*/gi;

/** An address for logs: without the keys, tokens and passwords that it may hold. */
export function shownAddress(address: string): string {
  return address
    .replace(/(:\/\/)[^/?#]*@/g, '$1…@')
    .replace(/(%3a%2f%2f)(?:(?!%2f|%3f|%26)[^&])*%40/gi, '$1…%40')
    .replace(SECRET, '$1…');
}

/** What any address may have besides: the key that signs what is put there. */
const SIGNING = 'signing-key-file';

/**
 * Opens the services at these addresses; what is at the same address is opened once. Throws a UsageError for
 * an address, or a composition, that means nothing.
 */
export async function openStore(addresses: Addresses, use: Use): Promise<OpenedStore> {
  const opener = new Opener(openAddress, addresses.cacheDir);
  const context = opener.context(use);
  try {
    const { composition } = addresses;
    return opener.assemble(
      composition === undefined
        ? await openAddresses(addresses, context)
        : await openComposition(composition, context),
    );
  } catch (error) {
    await opener.close();
    throw error;
  }
}

async function openAddresses(addresses: Addresses, { use, open }: BackendContext): Promise<Store> {
  const part = async <K extends keyof Services>(kind: K): Promise<Part<Services[K]>> => {
    const store = await open(addresses[kind], use);
    return { service: store[kind], store, far: store.far };
  };
  return assemble({
    blobs: await part('blobs'),
    directories: await part('directories'),
    pathInfos: await part('pathInfos'),
  });
}

async function openComposition(file: string, context: BackendContext): Promise<Store> {
  // Loaded when it is needed: most stores have an address.
  const { readComposition } = await import('./composition/check.ts');
  const { buildComposition } = await import('./composition/build.ts');
  return buildComposition(readComposition(file, checkAddress), context);
}

async function openAddress(address: string, context: BackendContext): Promise<Store> {
  const { url, backend } = checkAddress(address);
  const keyFile = takeParameter(url, SIGNING);
  const store = await backend(url, context);
  if (keyFile === undefined) return store;
  const { withSigning } = await import('./signing.ts');
  return withSigning(store, keyFile, context.contents);
}

/** Throws a UsageError for an address that names no kind of store. */
export function checkAddress(address: string): { url: URL; backend: OpenBackend } {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    throw new UsageError(
      `not an address: ${JSON.stringify(shownAddress(address))}, want a URL such as local:///var/lib/tvix-store`,
    );
  }
  const backend = BACKENDS[url.protocol.slice(0, -1)];
  if (!backend) {
    const known = Object.keys(BACKENDS).map((scheme) => `${scheme}://`);
    throw new UsageError(
      `unknown kind of store in ${JSON.stringify(shownAddress(address))}; known are ${known.join(', ')}`,
    );
  }
  return { url, backend };
}

/** The directory of a local store's address; `undefined` when it is that of another kind of store. */
export function localDirectory(address: string): string | undefined {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  return url && BACKENDS[url.protocol.slice(0, -1)] === openLocal ? directoryOf(url) : undefined;
}
