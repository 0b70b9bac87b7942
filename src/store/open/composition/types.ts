import { pathToFileURL } from 'node:url';
import { CachedBlobService } from '../../../castore/blob/cached.ts';
import { DEFAULT_CUTTER } from '../../../castore/blob/chunker.ts';
import { CachedDirectoryService } from '../../../castore/directory/cached.ts';
import { readSecretKeyFile } from '../../../nix/key-file.ts';
import { UsageError } from '../../../util/errors.ts';
import { CachedPathInfoService } from '../../path-info/cached.ts';
import { LruPathInfoService } from '../../path-info/lru.ts';
import { SigningPathInfoService } from '../../path-info/signing.ts';
import type { Contents, Services } from '../../services.ts';
import type { Use } from '../backends/backend.ts';

export type Kind = keyof Services;

/** What a key of an instance may hold. */
export interface Key {
  /** `service` is the name of another instance, or an address; `options` is a table of texts. */
  readonly is: 'text' | 'path' | 'number' | 'texts' | 'options' | 'service';
  readonly required?: boolean;
  /** Another spelling. */
  readonly also?: string;
  /** The kind of service that is named, if it is another than that of the instance. */
  readonly kind?: Kind;
  /** What the service that is named is opened for, if reading commands write to it, too. */
  readonly use?: Use;
}

/** What a file gives for the keys of an instance; it has been checked against them. */
export interface Given {
  text(key: string): string;
  /** These are `undefined` where the file gives none. */
  number(key: string): number | undefined;
  texts(key: string): readonly string[] | undefined;
  options(key: string): Readonly<Record<string, string>>;
}

/** What an instance is built of. */
export interface Parts<K extends Kind> {
  /** What a key names. */
  service<J extends Kind = K>(key: string): Services[J];
  /** Blobs and directories of the whole composition, to be used once it is built. */
  readonly contents: Contents;
  /** Has something done when all of it is closed, before what the instance was built of is. */
  onClose(close: () => Promise<void>): void;
}

export interface ServiceType {
  readonly keys: Readonly<Record<string, Key>>;
  /** The address that an instance stands for: it is opened as if that had been given on the command line. */
  readonly address?: { readonly of: (given: Given) => string; readonly kinds: readonly Kind[] };
  /** Or what makes an instance, by the kind of service. */
  readonly make?: { readonly [K in Kind]?: Make<K> };
  /** The key that names the service to which puts go on. */
  readonly puts?: string;
  /** Whether what is read of it is what is read of that. */
  readonly through?: boolean;
}

type Make<K extends Kind> = (parts: Parts<K>, given: Given) => Services[K] | Promise<Services[K]>;

const ALL: readonly Kind[] = ['blobs', 'directories', 'pathInfos'];

/** A near service in front of a far one; `puts` says which of them takes what is put. */
function layered(puts: 'near' | 'far'): ServiceType {
  return {
    keys: {
      near: { is: 'service', required: true, also: 'local', use: puts === 'far' ? 'fill' : 'write' },
      far: { is: 'service', required: true, also: 'remote' },
    },
    make: {
      blobs: (parts) => {
        const blobs = new CachedBlobService(parts.service('near'), parts.service('far'), puts);
        parts.onClose(() => blobs.settle());
        return blobs;
      },
      directories: (parts) => new CachedDirectoryService(parts.service('near'), parts.service('far'), puts),
      pathInfos: (parts) => {
        const pathInfos = new CachedPathInfoService(parts.service('near'), parts.service('far'), puts);
        parts.onClose(() => pathInfos.settle());
        return pathInfos;
      },
    },
    puts,
  };
}

function objectStoreAddress(given: Given): string {
  const size = given.number('avg_chunk_size') ?? DEFAULT_CUTTER.average;
  if (size !== DEFAULT_CUTTER.average)
    throw new UsageError(`avg_chunk_size can only be ${DEFAULT_CUTTER.average}, which all stores share`);
  const options = Object.entries(given.options('object_store_options'));
  const query = options.map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
  return `objectstore+${given.text('object_store_url')}${query && `?${query}`}`;
}

/** Every type of service that a composition may have. */
export const TYPES: Readonly<Record<string, ServiceType>> = {
  memory: { keys: {}, address: { of: () => 'memory://', kinds: ALL } },
  local: {
    keys: { path: { is: 'path', required: true } },
    address: {
      of: (given) => pathToFileURL(given.text('path')).href.replace(/^file:/, 'local:'),
      kinds: ALL,
    },
  },
  grpc: {
    keys: { url: { is: 'text', required: true } },
    address: { of: (given) => given.text('url'), kinds: ALL },
  },
  objectstore: {
    keys: {
      object_store_url: { is: 'text', required: true },
      object_store_options: { is: 'options' },
      avg_chunk_size: { is: 'number' },
    },
    address: { of: objectStoreAddress, kinds: ALL },
  },
  cache: layered('far'),
  combined: layered('near'),
  lru: {
    keys: { capacity: { is: 'number', required: true } },
    make: { pathInfos: (_, given) => new LruPathInfoService(given.number('capacity')!) },
  },
  nix: {
    keys: {
      base_url: { is: 'text', required: true },
      blob_service: { is: 'service', required: true, kind: 'blobs', use: 'write' },
      directory_service: { is: 'service', required: true, kind: 'directories', use: 'write' },
      public_keys: { is: 'texts' },
    },
    make: {
      pathInfos: async (parts, given) => {
        // Loaded when it is needed: it brings a client of its own.
        const { openNixCache } = await import('./nix.ts');
        const { pathInfos, close } = openNixCache(given.text('base_url'), given.texts('public_keys'), {
          blobs: parts.service<'blobs'>('blob_service'),
          directories: parts.service<'directories'>('directory_service'),
        });
        parts.onClose(close);
        return pathInfos;
      },
    },
  },
  'keyfile-signing': {
    keys: { inner: { is: 'service', required: true }, keyfile: { is: 'path', required: true } },
    make: {
      pathInfos: async (parts, given) => {
        const key = await readSecretKeyFile(given.text('keyfile'));
        return new SigningPathInfoService(parts.service('inner'), parts.contents, key);
      },
    },
    puts: 'inner',
    through: true,
  },
};

/** The names of the types that make this kind of service. */
export function typesOf(kind: Kind): string[] {
  return Object.keys(TYPES).filter((name) => {
    const { address, make } = TYPES[name]!;
    return address?.kinds.includes(kind) || make?.[kind];
  });
}
