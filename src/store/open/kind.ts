import type { LocalStore } from '../../castore/local/store.ts';
import type { PublicKey } from '../../nix/key.ts';
import type { Patience } from '../../util/async/retry.ts';
import type { PathInfoService } from '../path-info/service.ts';
import type { Contents, ServiceName, Services, Store, Use } from '../services.ts';
import type { Given, Key } from './keys.ts';

/** Every service of a store, and what people call it. */
export const SERVICES: Readonly<Record<ServiceName, string>> = {
  blobs: 'blobs',
  directories: 'directories',
  pathInfos: 'path infos',
};
export const ALL_SERVICES = Object.keys(SERVICES) as ServiceName[];

/** A kind of store, or of wrapper round one: all that an address or a composition can name. */
export interface Kind {
  readonly keys: Readonly<Record<string, Key>>;
  /**
   * The address that values in a composition stand for. A kind without it has its keys as the parameters of its
   * address; one that has it still takes those that name services from there.
   */
  readonly address?: (given: Given) => string;
  /** Throws a UsageError for what cannot be right, as far as that can be told without opening it. */
  readonly check?: (url: URL, given: Given) => void;
  /** Makes each service that this kind can have. */
  readonly makes: Makes;
  /** Which of them one has that was given these values, if not all. */
  readonly has?: (given: Given) => readonly ServiceName[];
  /** Whether others may have made its path infos where it is opened for this: they are checked if keys are trusted. */
  readonly isOthers?: (use: Use) => boolean;
  /** Whether each is one of its own, at no place that somebody else could name. */
  readonly isUnique?: (url: URL) => boolean;
  /** The key that names the service to which puts go on. */
  readonly puts?: string;
  /** Whether the services that this does not make are those of what `puts` names. */
  readonly through?: boolean;
}

export type Makes = { readonly [K in ServiceName]?: Make<K> };
export type Make<K extends ServiceName> = (site: Site) => Promise<Part<Services[K]>>;

/** A service, and what holds for the store that it belongs to. */
export interface Part<S = Services[ServiceName]>
  extends Pick<Store, 'local' | 'bucket' | 'paths' | 'signedRoots' | 'far'> {
  readonly service: S;
}

/** The surroundings of a kind of store while it makes a service. */
export interface Site {
  /** Where it is; only kinds that have addresses of their own ask for it. */
  readonly url: URL;
  readonly given: Given;
  readonly use: Use;
  /** See `Addresses`. */
  readonly patience: Patience;
  /** The cache of this machine, for what has to be kept; opened when it is first asked for. */
  cache(): LocalStore;
  /** Opens the cache in a directory, and has it obey the limit that all of them have. */
  openToFill(dir: string): LocalStore;
  /** Whose signatures count, of path infos that others may have made; all are believed if it is not given. */
  readonly trustedKeys: readonly PublicKey[] | undefined;
  /** Copies of others' path infos, of which only what is to be believed is there. */
  believedCopies(pathInfos: PathInfoService): Promise<PathInfoService>;
  /** Blobs and directories of all that is being opened, to be used once that is done. */
  readonly contents: Contents;
  /** The service that a key names. */
  part<K extends ServiceName>(key: string, service: K): Promise<Part<Services[K]>>;
  /** The services that a key with several names. */
  parts<K extends ServiceName>(
    key: string,
    service: K,
  ): { readonly name: string; readonly part: Promise<Part<Services[K]>> }[];
  /** What all services have in common that are made of the same parts. */
  shared<T extends object>(make: () => T): T;
  /** Opens what several services are of, once for all of them; it is closed after what is built of it. */
  store(open: (site: Site) => Promise<Store> | Store): Promise<Store>;
  /** Has something done at the end, before what this was built of is closed. */
  onClose(close: () => Promise<void>): void;
}

/** The services of a store that has all three and is opened as one. */
export function ofStore(open: (site: Site) => Promise<Store> | Store): Required<Makes> {
  const make =
    <K extends ServiceName>(name: K): Make<K> =>
    async (site) => {
      const { [name]: service, local, bucket, paths, signedRoots, far } = await site.store(open);
      return { service, local, bucket, paths, signedRoots, far };
    };
  return { blobs: make('blobs'), directories: make('directories'), pathInfos: make('pathInfos') };
}
