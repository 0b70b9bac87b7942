import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { Option } from 'commander';
import { PublicKey } from '../nix/key.ts';
import { describeAddress, localDirectory, storesNamed } from '../store/open/address.ts';
import { addressOfReplicas, replicasIn } from '../store/open/backends/replicas.ts';
import { defaultDirectory } from '../store/open/default-directory.ts';
import type { Addresses } from '../store/open/open-store.ts';
import type { Patience } from '../util/async/retry.ts';
import { UsageError } from '../util/errors.ts';
import { parsedBy } from './arguments.ts';
import { STORE_OPTIONS } from './help.ts';

/** Flags that say which store a command works on. */
export interface StoreFlags {
  readonly store: string;
  readonly blobServiceAddr?: string;
  readonly directoryServiceAddr?: string;
  readonly pathInfoServiceAddr?: string;
  readonly cache: string;
  readonly storeComposition?: string;
}

/** Flags of the commands that read a store, which others may have filled. */
export interface ReadFlags extends StoreFlags {
  readonly trustedPublicKeys?: readonly PublicKey[] | undefined;
  readonly mirror?: readonly string[] | undefined;
}

/** Flags of the commands that put paths. */
export interface SigningFlags {
  readonly signingKeyFile?: string;
}

const ADDRESSES = ['store', 'blobServiceAddr', 'directoryServiceAddr', 'pathInfoServiceAddr'];

/** Adds the store flags to a command. */
export function withStoreOptions<C extends Command>(command: C): C {
  const options = [
    new Option('--store <url>', 'address of the store; given again, of another one with the same contents')
      .env('TVIX_STORE')
      .argParser(severalStores())
      .default(defaultStore(), defaultMeans('local:///var/lib/tvix-store', 'tvix-store')),
    new Option('--blob-service-addr <url>', 'address of the blobs, if elsewhere').env('BLOB_SERVICE_ADDR'),
    new Option('--directory-service-addr <url>', 'address of the directories, if elsewhere').env(
      'DIRECTORY_SERVICE_ADDR',
    ),
    new Option('--path-info-service-addr <url>', 'address of the path infos, if elsewhere').env(
      'PATH_INFO_SERVICE_ADDR',
    ),
    new Option(
      '--cache <dir>',
      'where mount, virtiofs and warm, and for binary caches and buckets all commands, keep what they fetch',
    )
      .env('TVIX_STORE_CACHE')
      .default(
        defaultDirectory('tvix-store-cache'),
        defaultMeans('/var/lib/tvix-store-cache', 'tvix-store-cache'),
      ),
    new Option(
      '--store-composition <file>',
      'a TOML file that describes the services, in place of all addresses',
    ).env('TVIX_STORE_COMPOSITION'),
  ];
  for (const option of options) command.addOption(option.helpGroup(STORE_OPTIONS));
  command.hook('preAction', (_, acting) => settle(acting));
  return command;
}

/** What is given on the command line counts more than what the environment gives, and is never left out silently. */
function settle(command: Command): void {
  if (isGiven(command, 'store')) {
    for (const name of ADDRESSES.filter((other) => command.getOptionValueSource(other) === 'env'))
      command.setOptionValue(name, undefined);
  }
  if (ADDRESSES.some((name) => isGiven(command, name))) {
    if (isGiven(command, 'storeComposition'))
      command.error('error: give either --store-composition or addresses of the store, not both');
    command.setOptionValue('storeComposition', undefined);
  }
  refuseUseless(command, 'cache', '--cache');
}

/** Refuses a flag on the command line that is for stores which are elsewhere where none is. */
function refuseUseless(command: Command, name: string, flag: string): void {
  const flags = command.opts();
  if (!isGiven(command, name) || flags.storeComposition !== undefined) return;
  const urls = command.options
    .filter((option) => option.flags.endsWith('<url>') && option.attributeName() !== 'mirror')
    .map((option) => flags[option.attributeName()]);
  const addresses = urls.filter((url) => url !== undefined);
  if (addresses.every((url) => localDirectory(url) !== undefined))
    command.error(`error: ${flag} has no effect: it is for a store that is elsewhere`);
}

/** Whether a store is named on the command line itself, by addresses or a composition. */
export function namesStore(command: Command): boolean {
  return [...ADDRESSES, 'storeComposition'].some((name) => isGiven(command, name));
}

/** Whether an option is given on the command line itself. */
export function isGiven(command: Command, name: string): boolean {
  return command.getOptionValueSource(name) === 'cli';
}

/** How long a command waits for a sign of life of a peer, and for one that goes away in the middle, in milliseconds. */
const PATIENCE: Patience = { firstAnswerMs: 4000, awayMs: 60_000 };

export function addressesOf(flags: ReadFlags & SigningFlags): Addresses {
  return {
    blobs: flags.blobServiceAddr ?? flags.store,
    directories: flags.directoryServiceAddr ?? flags.store,
    pathInfos: flags.pathInfoServiceAddr ?? flags.store,
    cacheDir: resolve(flags.cache),
    patience: PATIENCE,
    composition: flags.storeComposition,
    signingKeyFile: flags.signingKeyFile,
    trustedKeys: flags.trustedPublicKeys,
    mirrors: flags.mirror,
  };
}

/** The store for people and logs. */
export function storeName(flags: StoreFlags): string {
  return flags.storeComposition ?? storesNamed(flags.store);
}

/** Joins each address to those that were given before it. */
function severalStores(): (address: string) => string {
  const given: string[] = [];
  return (address) => {
    given.push(...(replicasIn(address) ?? [address]));
    return given.length === 1 ? address : addressOfReplicas(given);
  };
}

function defaultStore(): string {
  return pathToFileURL(defaultDirectory('tvix-store')).href.replace(/^file:/, 'local:');
}

/** A default in words that are true on every machine, for manual pages as well. */
function defaultMeans(forRoot: string, name: string): string {
  return `${forRoot} for root, else $XDG_DATA_HOME/${name}`;
}

/** Adds the flags of commands that read a store to one: which, and whose word on what a path is counts. */
export function withReadOptions<C extends Command>(command: C): C {
  const option = new Option(
    '--trusted-public-keys <keys>',
    'of stores that are elsewhere, believe only what these keys have signed: NAME:BASE64, with blanks between; given again, more of them',
  )
    .env('TVIX_STORE_TRUSTED_PUBLIC_KEYS')
    .argParser((text: string, before: readonly PublicKey[] = []) => [...before, ...trustedKeys(text)]);
  const mirror = new Option(
    '--mirror <url>',
    'where contents of the store may be read as well, from whoever is fast, and from the store at last: of it, nothing is believed that is not checked; given again, of another one',
  ).argParser((address: string, before: readonly string[] = []) => {
    parsedBy(describeAddress)(address);
    return [...before, address];
  });
  const reading = withStoreOptions(command);
  for (const one of [option, mirror]) reading.addOption(one.helpGroup(STORE_OPTIONS));
  reading.hook('preAction', (_, acting) => {
    refuseUseless(acting, 'trustedPublicKeys', '--trusted-public-keys');
    refuseUseless(acting, 'mirror', '--mirror');
  });
  return reading;
}

function trustedKeys(text: string): PublicKey[] {
  return parsedBy((list) => {
    const keys = PublicKey.parseList(list);
    // An unset variable in a script must not mean that everybody is trusted.
    if (keys.length === 0) throw new UsageError('there is no key in it');
    return keys;
  })(text);
}

/** The flag of commands that put paths: the key that signs them. */
export function signingOption(): Option {
  return new Option(
    '--signing-key-file <file>',
    'verify every path that is added, and sign it with this secret key',
  ).env('SIGNING_KEY_FILE');
}
