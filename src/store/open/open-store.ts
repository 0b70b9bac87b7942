import type { Patience } from '../../util/async/retry.ts';
import type { OpenedStore, Use } from '../services.ts';
import { describeAddress } from './address.ts';
import type { Roots } from './assemble.ts';
import { signing } from './backends/signing.ts';
import { Builder } from './builder.ts';
import type { Description } from './description.ts';
import { requireService } from './description.ts';
import { ALL_SERVICES } from './kind.ts';

/** Where each service is, and the directory for what has to be kept of others'. */
export interface Addresses {
  readonly blobs: string;
  readonly directories: string;
  readonly pathInfos: string;
  readonly cacheDir: string;
  /** A file that tells where, in place of the addresses. */
  readonly composition?: string | undefined;
  /** With peers that do not answer. */
  readonly patience?: Patience;
  /** A file with the key that signs whatever is put, once it has been verified. */
  readonly signingKeyFile?: string | undefined;
}

/** In place of addresses: an empty store of its own. */
export const NOWHERE = {
  blobs: 'memory://',
  directories: 'memory://',
  pathInfos: 'memory://',
  composition: undefined,
} as const;

/**
 * Opens the services at these addresses; what is at the same address is opened once. Throws a UsageError for
 * an address, or a composition, that means nothing.
 */
export async function openStore(addresses: Addresses, use: Use): Promise<OpenedStore> {
  const { composition, signingKeyFile } = addresses;
  const roots = composition === undefined ? describeAll(addresses) : await describeComposition(composition);
  const { pathInfos } = roots;
  const signed =
    signingKeyFile === undefined ? roots : { ...roots, pathInfos: signing(pathInfos, signingKeyFile) };
  return new Builder(signed, use, addresses).build();
}

function describeAll(addresses: Addresses): Roots {
  const described = new Map<string, Description>();
  const describe = (address: string) => {
    const description = described.get(address) ?? describeAddress(address);
    described.set(address, description);
    return description;
  };
  const roots = {
    blobs: describe(addresses.blobs),
    directories: describe(addresses.directories),
    pathInfos: describe(addresses.pathInfos),
  };
  for (const service of ALL_SERVICES) requireService(roots[service], service);
  return roots;
}

async function describeComposition(file: string): Promise<Roots> {
  // Loaded when it is needed: most stores have an address.
  const { readComposition } = await import('./composition/check.ts');
  return readComposition(file).entries;
}
