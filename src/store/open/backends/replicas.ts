import { EMPTY_DIGEST } from '../../../castore/digest.ts';
import { STORE_PATH_HASH_LENGTH } from '../../../nix/store-path.ts';
import { UsageError } from '../../../util/errors.ts';
import { takeParameters } from '../../../util/url.ts';
import type { PathInfoService } from '../../path-info/service.ts';
import type { ServiceName, Services } from '../../services.ts';
import type { Kind, Part, Site } from '../kind.ts';

const SCHEME = 'replicas:';
/** Hosts of a daemon, with a comma between them. */
const HOSTS = /^(grpc\+https?:\/\/)([^/?#]*,[^/?#]*)(.*)$/is;

/**
 * Several stores with the same contents: each thing is read from the first that is there, and from the next when that
 * one is slow; what is put goes to one of them.
 */
export const REPLICAS: Kind = {
  keys: { of: { is: 'services', required: true, failsAtOnce: true } },
  makes: {
    blobs: async (site) => {
      const { ReplicatedBlobService } = await import('../../../castore/blob/replicated.ts');
      const replicas = await replicated(site, 'blobs', (blobs, signal) => blobs.chunks(EMPTY_DIGEST, signal));
      return { ...replicas, service: new ReplicatedBlobService(replicas.service) };
    },
    directories: async (site) => {
      const { ReplicatedDirectoryService } = await import('../../../castore/directory/replicated.ts');
      const replicas = await replicated(site, 'directories', (directories, signal) =>
        directories.get(EMPTY_DIGEST, signal),
      );
      return { ...replicas, service: new ReplicatedDirectoryService(replicas.service) };
    },
    pathInfos: async (site) => {
      const { ReplicatedPathInfoService } = await import('../../path-info/replicated.ts');
      const replicas = await replicated(site, 'pathInfos', (pathInfos: PathInfoService, signal) =>
        pathInfos.get(new Uint8Array(STORE_PATH_HASH_LENGTH), signal),
      );
      return { ...replicas, service: new ReplicatedPathInfoService(replicas.service) };
    },
  },
};

async function replicated<K extends ServiceName>(
  site: Site,
  service: K,
  probe: (service: Services[K], signal: AbortSignal) => Promise<unknown>,
) {
  // Loaded when it is needed: most stores do without.
  const { ReplicaGroup, Replicas } = await import('../../../util/async/replicas.ts');
  const { Replica } = await import('../../../util/async/replica.ts');
  const named = site.parts('of', service);
  const parts = await Promise.all(named.map(async ({ name, part }) => ({ name, part: await part })));
  for (const { name, part } of parts)
    if (part.paths)
      throw new UsageError(`${name} has whole store paths only: name several binary caches by substituter=`);
  const group = site.shared(() => {
    const members = parts.map(({ name, part }) => new Replica(name, (signal) => probe(part.service, signal)));
    const made = new ReplicaGroup(members);
    site.onClose(async () => made.close());
    return made;
  });
  const services = parts.map(({ part }) => part.service);
  const replicas = new Replicas(group, services, site.patience);
  return { service: replicas, far: parts.some(({ part }: { part: Part }) => part.far) };
}

/** The addresses in one that names several hosts; `undefined` for any other. */
export function hostsIn(address: string): string[] | undefined {
  const [, scheme, hosts, rest] = HOSTS.exec(address) ?? [];
  if (hosts === undefined) return undefined;
  const [, port = ''] = /(:\d+)$/.exec(hosts) ?? [];
  return hosts.split(',').map((host) => `${scheme}${host}${/:\d+$/.test(host) ? '' : port}${rest}`);
}

/** The addresses in one that names several stores; `undefined` for that of one store. */
export function replicasIn(address: string): string[] | undefined {
  if (!address.startsWith(SCHEME) || !URL.canParse(address)) return hostsIn(address);
  return takeParameters(new URL(address), 'of');
}

/** The address of several stores. */
export function addressOfReplicas(addresses: readonly string[]): string {
  return `${SCHEME}//?${addresses.map((one) => `of=${encodeURIComponent(one)}`).join('&')}`;
}
