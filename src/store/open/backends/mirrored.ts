import type { BlobService } from '../../../castore/blob/service.ts';
import { Digest } from '../../../castore/digest.ts';
import type { DirectoryService } from '../../../castore/directory/service.ts';
import { messageOf, UsageError } from '../../../util/errors.ts';
import { log } from '../../../util/log.ts';
import type { Contents } from '../../services.ts';
import type { Description } from '../description.ts';
import type { Key } from '../keys.ts';
import type { Kind, Part, Site } from '../kind.ts';

/** Asked for to see whether a mirror is there. */
const NOTHING = Digest.of(new Uint8Array(32));

/** The key that names mirrors. */
export const MIRRORS: Key = { is: 'services', atLeast: 1, use: 'read', failsAtOnce: true };

/** A store, and mirrors from which its contents may be read as well: whoever is fast gives them, and nobody is trusted. */
export const MIRRORED: Kind = {
  keys: { store: { is: 'service', required: true }, mirrors: { ...MIRRORS, required: true } },
  makes: {
    blobs: async (site) => {
      const store = await partly(site, 'blobs');
      return { ...store, service: await mirroredBlobs(site, store.service) };
    },
    directories: async (site) => {
      const store = await partly(site, 'directories');
      return { ...store, service: await mirroredDirectories(site, store.service) };
    },
  },
  puts: 'store',
  through: true,
};

/** The store, as far as it is one for those who have mirrors as well. */
async function partly<K extends keyof Contents>(site: Site, service: K): Promise<Part<Contents[K]>> {
  const { local: _, ...store } = await site.part('store', service);
  refuseWhole('the store', store);
  return store;
}

/** Blobs of the mirrors that `mirrors` names, and of `last` where they have none. */
export async function mirroredBlobs(site: Site, last: BlobService): Promise<BlobService> {
  const { MirroredBlobService } = await import('../../../castore/blob/mirrored.ts');
  const probe = (blobs: BlobService, signal: AbortSignal) => blobs.chunks(NOTHING, signal);
  return new MirroredBlobService(await replicas(site, 'blobs', last, probe));
}

/** Directories, likewise. */
export async function mirroredDirectories(site: Site, last: DirectoryService): Promise<DirectoryService> {
  const { MirroredDirectoryService } = await import('../../../castore/directory/mirrored.ts');
  const probe = (directories: DirectoryService, signal: AbortSignal) => directories.get(NOTHING, signal);
  return new MirroredDirectoryService(await replicas(site, 'directories', last, probe));
}

async function replicas<K extends keyof Contents>(
  site: Site,
  service: K,
  last: Contents[K],
  probe: (service: Contents[K], signal: AbortSignal) => Promise<unknown>,
) {
  // Loaded when it is needed: most stores do without.
  const { Replicas } = await import('../../../util/async/replicas.ts');
  const { Mirror, MirroredStore, MirrorGroup } = await import('../../../util/async/mirrors.ts');
  const named = site.parts('mirrors', service);
  const mirrors = await Promise.all(named.map(({ name, part }) => unlessAway(name, part)));
  const group = site.shared(() => {
    const members = mirrors.map(
      (part, i) => new Mirror(named[i]!.name, (signal) => probe(part!.service, signal)),
    );
    const made = new MirrorGroup(members, new MirroredStore('the store', async () => {}));
    site.onClose(async () => made.close());
    return made;
  });
  for (const [i, part] of mirrors.entries()) if (!part) group.drop(i);
  return new Replicas(group, [...mirrors.map((part) => part?.service ?? last), last], { awayMs: 0 });
}

/** What is at a mirror, if it can be opened. */
async function unlessAway<S>(name: string, opening: Promise<Part<S>>): Promise<Part<S> | undefined> {
  try {
    const part = await opening;
    refuseWhole(name, part);
    return part;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    log.warn('a mirror cannot be opened; going on without it', { mirror: name, error: messageOf(error) });
    return undefined;
  }
}

function refuseWhole(name: string, { paths }: Part<unknown>): void {
  if (!paths) return;
  throw new UsageError(
    `${name} is a binary cache, of which paths come whole: mirrors are for stores whose contents come one by one`,
  );
}

/** Describes a store whose contents are read from mirrors as well. One that has a use of its own for them gets them. */
export function mirroredBy(store: Description, mirrors: readonly Description[]): Description {
  const parts = mirrors.map((mirror, i) => [`mirrors.${i}`, mirror] as const);
  if (store.kind.keys.mirrors) return { ...store, parts: new Map([...store.parts, ...parts]) };
  return {
    name: store.name,
    typeName: 'mirrored',
    kind: MIRRORED,
    values: new Map(),
    parts: new Map([['store', store], ...parts]),
  };
}
