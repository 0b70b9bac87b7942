import type { PublicKey } from '../../nix/key.ts';
import type { Patience } from '../../util/async/retry.ts';
import type { OpenedStore, Use } from '../services.ts';
import { describeAddress } from './address.ts';
import type { Roots } from './assemble.ts';
import { mirroredBy } from './backends/mirrored.ts';
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
  /** How large each cache may get that is filled, in bytes; Infinity for one that only leaves room on its disk (`setKeepFree`). */
  readonly cacheSize?: number | undefined;
  /** A file that tells where, in place of the addresses. */
  readonly composition?: string | undefined;
  /** Where contents may be read as well, from whoever is fast; nobody there is trusted. */
  readonly mirrors?: readonly string[] | undefined;
  /** With peers that do not answer. */
  readonly patience?: Patience;
  /** A file with the key that signs whatever is put, once it has been verified. */
  readonly signingKeyFile?: string | undefined;
  /**
   * Whose signatures count, of path infos that others may have made: those in stores that are elsewhere, and copies of them.
   * All are believed if it is not given.
   */
  readonly trustedKeys?: readonly PublicKey[] | undefined;
  /** Whether, with trusted keys, lists are of those path infos only that are believed without anything being read. */
  readonly listsBelieved?: boolean | undefined;
}

/** In place of addresses: an empty store of its own. */
export const NOWHERE = {
  blobs: 'memory://',
  directories: 'memory://',
  pathInfos: 'memory://',
  composition: undefined,
  mirrors: undefined,
} as const;

/**
 * Opens the services at these addresses; what is at the same address is opened once. Throws a UsageError for
 * an address, or a composition, that means nothing.
 */
export async function openStore(addresses: Addresses, use: Use): Promise<OpenedStore> {
  const { composition, signingKeyFile, mirrors = [] } = addresses;
  const named = composition === undefined ? describeAll(addresses) : await describeComposition(composition);
  const roots = mirrors.length > 0 ? withMirrors(named, mirrors.map(describeAddress)) : named;
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

function withMirrors({ blobs, directories, pathInfos }: Roots, mirrors: readonly Description[]): Roots {
  return { blobs: mirroredBy(blobs, mirrors), directories: mirroredBy(directories, mirrors), pathInfos };
}

async function describeComposition(file: string): Promise<Roots> {
  // Loaded when it is needed: most stores have an address.
  const { readComposition } = await import('./composition/check.ts');
  return readComposition(file).entries;
}
