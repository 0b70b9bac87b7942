import { resolve } from 'node:path';
import type { Digest } from '../../castore/digest.ts';
import { Directory } from '../../castore/directory.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { ObjectStore } from '../../castore/objects/object-store.ts';
import type { NamedPath } from '../../store/named-path.ts';
import { parseStorePath, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import { PathInfoTable } from '../../store/path-info/local.ts';
import type { PathInfo } from '../../store/path-info/path-info.ts';
import type { NamedProfile } from '../../store/profile/file.ts';
import { readProfiles, writeProfiles } from '../../store/profile/file.ts';
import { findProfile } from '../../store/profile/find.ts';
import { follow } from '../../store/profile/follow.ts';
import { readProfile, writeProfile } from '../../store/profile/objects.ts';
import { ProfileTable } from '../../store/profile/table.ts';
import { fetchDirectory, findPathInfo } from '../../store/resolve.ts';
import type { Store } from '../../store/services.ts';
import { asBuffer } from '../../util/bytes.ts';
import { StoreError, UsageError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { Command } from '../command.ts';
import { withFarStore } from '../far-store.ts';
import type { ReadFlags } from '../store-options.ts';
import { addressesOf, withReadOptions } from '../store-options.ts';

const EXAMPLE = '8vbqaxapywkvv1hacdja3pi075r14d43-a_dir';
const BUCKET = /^objectstore\+/;
const ADDRESS = /^[a-z][a-z+-]*:/;

export function profileCommand(): Command {
  return new Command('profile')
    .summary('show and pass on what of store paths is needed first')
    .description(
      'A mount notes in its cache which directories and parts of files of a store path were needed, and in which order. ' +
        'From this, "mount --prefetch" and "warm --profile" know what to fetch before it is asked for, also on ' +
        'other machines that are given these profiles.',
    )
    .example(
      `tvix-store profile show ${EXAMPLE}`,
      `tvix-store profile export --to objectstore+s3://bucket/prefix ${EXAMPLE}`,
      `tvix-store profile import --from profiles.bin`,
    )
    .addCommand(showCommand())
    .addCommand(exportCommand())
    .addCommand(importCommand());
}

function showCommand(): Command {
  return withReadOptions(new Command('show'))
    .summary('show what of a store path is needed first')
    .description(
      'Prints the steps of the profile that the cache has of a store path, or else the store: "d" and a directory, or "f", a ' +
        'file, and the bytes of it.',
    )
    .argument('<STORE_PATH>', STORE_PATH_FORMS)
    .option('--json', 'print one JSON object')
    .example(`tvix-store profile show --store grpc+http://store.example:8000 ${EXAMPLE}`)
    .action(async (text: string, flags: ReadFlags & { json?: boolean }) => {
      const path = parseStorePath(text);
      await withFarStore(flags, (store, cache) => show(store, cache, path, flags.json ?? false));
    });
}

async function show(store: Store, cache: LocalStore, path: NamedPath, json: boolean): Promise<void> {
  const info = await infoOf(store, cache, path);
  const profile = await findProfile(new ProfileTable(cache.env), store, info);
  if (!profile) throw noProfile(info);
  const get = async (digest: Digest) => {
    const bytes = cache.reader.directory(digest.bytes);
    return bytes ? Directory.decode(bytes) : fetchDirectory(store, { kind: 'directory', digest, size: 0n });
  };
  const steps: object[] = [];
  for await (const { path, node, offset, length } of follow(profile, get)) {
    if (!json) process.stdout.write(node.kind === 'file' ? `f ${offset}+${length} ${path}\n` : `d ${path}\n`);
    else if (node.kind === 'file') steps.push({ type: 'file', path, offset, length });
    else steps.push({ type: 'directory', path });
  }
  if (json)
    process.stdout.write(
      `${JSON.stringify({ path: info.storePath.absolute(), root: profile.root.toString(), steps })}\n`,
    );
}

function exportCommand(): Command {
  return withReadOptions(new Command('export'))
    .summary('write profiles into a bucket or a file')
    .description(
      'Writes the profiles that the cache has of store paths into a bucket, beside their path infos, where everybody finds ' +
        'them who reads that, or into a file. Prints the store paths.',
    )
    .argument('<STORE_PATH...>', STORE_PATH_FORMS)
    .requiredOption('--to <url|file>', 'where to: objectstore+s3://…, objectstore+file:///dir, or a file')
    .example(
      `tvix-store profile export --store grpc+http://store.example:8000 --to objectstore+file:///srv/bucket ${EXAMPLE}`,
    )
    .action(async (names: string[], flags: ReadFlags & { to: string }) => {
      const paths = names.map(parseStorePath);
      refuseOthers(flags.to);
      await withFarStore(flags, (store, cache) => exportAll(store, cache, paths, flags));
    });
}

async function exportAll(
  store: Store,
  cache: LocalStore,
  paths: readonly NamedPath[],
  flags: ReadFlags & { to: string },
): Promise<void> {
  const table = new ProfileTable(cache.env);
  const found: (NamedProfile & { readonly info: PathInfo })[] = [];
  for (const path of paths) {
    const info = await infoOf(store, cache, path);
    const profile = info.node.kind === 'directory' ? table.get(info.node.digest.bytes) : undefined;
    if (profile) found.push({ hash: info.storePath.hash, profile, info });
    else fail(noProfile(info));
  }
  if (BUCKET.test(flags.to)) {
    await withObjects(flags.to, flags, 'write', async (objects) => {
      for (const { hash, profile } of found) await writeProfile(objects, hash, profile);
    });
  } else await writeProfiles(resolve(flags.to), found);
  for (const { info } of found) process.stdout.write(`${info.storePath.absolute()}\n`);
}

function importCommand(): Command {
  return withReadOptions(new Command('import'))
    .summary('take profiles from a bucket or a file')
    .description(
      'Takes the profiles of store paths from a bucket, or those in a file, all of them unless some are named, into the cache, ' +
        'over those that are there. They only say what to fetch, so nobody has to be trusted for them.',
    )
    .argument('[STORE_PATH...]', `${STORE_PATH_FORMS}; from a bucket at least one`)
    .requiredOption('--from <url|file>', 'where from: an address objectstore+…, or a file')
    .example(
      `tvix-store profile import --store grpc+http://store.example:8000 --from objectstore+https://cache.example ${EXAMPLE}`,
    )
    .action(async (names: string[], flags: ReadFlags & { from: string }) => {
      const paths = names.map(parseStorePath);
      refuseOthers(flags.from);
      if (BUCKET.test(flags.from) && paths.length === 0)
        throw new UsageError('from a bucket, name the store paths whose profiles are wanted');
      await withFarStore(flags, (_, cache) => importAll(cache, paths, flags));
    });
}

async function importAll(
  cache: LocalStore,
  paths: readonly NamedPath[],
  flags: ReadFlags & { from: string },
): Promise<void> {
  const table = new ProfileTable(cache.env);
  if (BUCKET.test(flags.from)) {
    await withObjects(flags.from, flags, 'read', async (objects) => {
      for (const { hash, shown } of paths) {
        const profile = await readProfile(objects, hash);
        if (profile) await table.put(profile);
        else fail(new StoreError('NOT_FOUND', `${objects.address} has no profile of ${shown}`));
      }
    });
  } else {
    const there = await readProfiles(resolve(flags.from));
    const isWanted = (hash: Uint8Array) =>
      paths.length === 0 || paths.some((path) => asBuffer(path.hash).equals(hash));
    for (const { hash, profile } of there) if (isWanted(hash)) await table.put(profile);
    for (const { hash, shown } of paths)
      if (!there.some((one) => asBuffer(one.hash).equals(hash)))
        fail(new StoreError('NOT_FOUND', `${flags.from} has no profile of ${shown}`));
  }
  table.trim();
}

/** Throws a UsageError for the address of something that has no profiles. */
function refuseOthers(place: string): void {
  if (place === '' || (ADDRESS.test(place) && !BUCKET.test(place)))
    throw new UsageError(
      `profiles are in buckets (objectstore+…) and files, not at ${JSON.stringify(place)}`,
    );
}

async function withObjects(
  address: string,
  flags: ReadFlags,
  use: 'read' | 'write',
  work: (objects: ObjectStore) => Promise<void>,
): Promise<void> {
  const own = addressesOf(flags);
  const at = { ...own, blobs: address, directories: address, pathInfos: address, composition: undefined };
  const store = await openStore(at, use);
  try {
    await work(store.bucket!.objects);
  } finally {
    await store.close();
  }
}

/** The path info of a path: what the cache knows of it is enough. */
async function infoOf(store: Store, cache: LocalStore, path: NamedPath): Promise<PathInfo> {
  const kept = new PathInfoTable(cache.env).get(path.hash);
  if (kept && (path.name === undefined || path.name === kept.storePath.name)) return kept;
  return findPathInfo(store, path);
}

function noProfile({ storePath }: PathInfo): StoreError {
  return new StoreError('NOT_FOUND', `there is no profile of ${storePath.absolute()}`);
}

/** Tells of one that failed, and goes on. */
function fail(error: StoreError): void {
  log.error(error.message);
  process.exitCode = 1;
}
