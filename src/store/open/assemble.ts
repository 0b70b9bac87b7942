import type { Services, Store } from '../services.ts';

/** A service that a store is to have. */
export interface Part<S = Services[keyof Services]> {
  readonly service: S;
  /** The store whose contents these are, unless they are those of several. */
  readonly store?: Store | undefined;
  /** See `Store.far`. */
  readonly far?: boolean | undefined;
}

/** The store of three services. Whatever else holds for a store holds for this one, if it has all three of it. */
export function assemble(parts: { readonly [K in keyof Services]: Part<Services[K]> }): Store {
  const { blobs, directories, pathInfos } = parts;
  const isOne = blobs.store === pathInfos.store && directories.store === pathInfos.store;
  return {
    ...(isOne ? pathInfos.store : {}),
    blobs: blobs.service,
    directories: directories.service,
    pathInfos: pathInfos.service,
    far: pathInfos.far ?? false,
    close: async () => {},
  };
}
