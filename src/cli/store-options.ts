import { homedir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { Option } from 'commander';
import type { Addresses } from '../store/store.ts';

/** Flags that say which store a command works on. */
export interface StoreFlags {
  readonly store: string;
  readonly blobServiceAddr?: string;
  readonly directoryServiceAddr?: string;
  readonly pathInfoServiceAddr?: string;
  readonly cache: string;
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
    );
}

export function addressesOf(flags: StoreFlags): Addresses {
  return {
    blobs: flags.blobServiceAddr ?? flags.store,
    directories: flags.directoryServiceAddr ?? flags.store,
    pathInfos: flags.pathInfoServiceAddr ?? flags.store,
    cacheDir: flags.cache,
  };
}

function defaultStore(): string {
  return pathToFileURL(defaultDirectory('tvix-store')).href.replace(/^file:/, 'local:');
}

/** Where data of this name belongs by default: below /var/lib for root, else in the user's data folder. */
function defaultDirectory(name: string): string {
  if (process.getuid?.() === 0) return join('/var/lib', name);
  return join(process.env.XDG_DATA_HOME || join(homedir(), '.local/share'), name);
}
