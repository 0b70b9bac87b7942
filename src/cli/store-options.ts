import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { Option } from 'commander';
import { defaultDirectory } from '../store/open/default-directory.ts';
import type { Addresses } from '../store/open/open-store.ts';
import { shownAddress } from '../util/url.ts';

/** Flags that say which store a command works on. */
export interface StoreFlags {
  readonly store: string;
  readonly blobServiceAddr?: string;
  readonly directoryServiceAddr?: string;
  readonly pathInfoServiceAddr?: string;
  readonly cache: string;
  readonly storeComposition?: string;
}

/** What a command that puts paths has besides. */
export interface SigningFlags {
  readonly signingKeyFile?: string;
}

/** Adds the store flags to a command. */
export function withStoreOptions(command: Command): Command {
  return command
    .addOption(new Option('--store <url>', 'the store').env('TVIX_STORE').default(defaultStore()))
    .addOption(new Option('--blob-service-addr <url>', 'blobs elsewhere').env('BLOB_SERVICE_ADDR'))
    .addOption(
      new Option('--directory-service-addr <url>', 'directories elsewhere').env('DIRECTORY_SERVICE_ADDR'),
    )
    .addOption(
      new Option('--path-info-service-addr <url>', 'path infos elsewhere').env('PATH_INFO_SERVICE_ADDR'),
    )
    .addOption(
      new Option('--cache <dir>', 'where to keep what is fetched from elsewhere')
        .env('TVIX_STORE_CACHE')
        .default(defaultDirectory('tvix-store-cache')),
    )
    .addOption(
      new Option(
        '--store-composition <file>',
        'a TOML file that wires services, in place of all addresses',
      ).env('TVIX_STORE_COMPOSITION'),
    );
}

export function addressesOf(flags: StoreFlags & SigningFlags): Addresses {
  return {
    blobs: flags.blobServiceAddr ?? flags.store,
    directories: flags.directoryServiceAddr ?? flags.store,
    pathInfos: flags.pathInfoServiceAddr ?? flags.store,
    cacheDir: flags.cache,
    composition: flags.storeComposition,
    signingKeyFile: flags.signingKeyFile,
  };
}

/** The store for people and logs. */
export function storeName(flags: StoreFlags): string {
  return flags.storeComposition ?? shownAddress(flags.store);
}

function defaultStore(): string {
  return pathToFileURL(defaultDirectory('tvix-store')).href.replace(/^file:/, 'local:');
}

/** The flag of commands that put paths: the key that signs them. */
export function signingOption(): Option {
  return new Option(
    '--signing-key-file <file>',
    'verify and sign every path that is put, with this secret key',
  ).env('SIGNING_KEY_FILE');
}
