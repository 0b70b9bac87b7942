import { Option } from 'commander';
import type { LocalStore } from '../../castore/local/store.ts';
import type { ObjectStore } from '../../castore/objects/object-store.ts';
import { BucketRoots } from '../../store/keeping/bucket/roots.ts';
import type { Root } from '../../store/keeping/roots.ts';
import { checkRootName, isExpired, RootTable } from '../../store/keeping/roots.ts';
import { parseStorePath, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { findPathInfo } from '../../store/resolve.ts';
import type { Store } from '../../store/services.ts';
import { argument, durationArgument } from '../arguments.ts';
import { namesBucket, withBucket } from '../bucket.ts';
import { Command } from '../command.ts';
import { withLocalStore } from '../local-store.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

export function rootCommand(): Command {
  return new Command('root')
    .summary('name store paths that are to be kept')
    .description(
      'Roots keep store paths, and everything they refer to, from being deleted by "tvix-store gc".',
    )
    .example(
      'tvix-store root add release-1.2 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir',
      'tvix-store root add --ttl 7d ci-1234 /nix/store/8vbqaxapywkvv1hacdja3pi075r14d43-a_dir',
      'tvix-store root list',
    )
    .addCommand(addCommand())
    .addCommand(removeCommand())
    .addCommand(listCommand());
}

function addCommand(): Command {
  return withStoreOptions(new Command('add'))
    .summary('add a root, or point it elsewhere')
    .description('Adds a root that keeps a store path, or points the root of this name to another one.')
    .argument('<NAME>', 'name of the root')
    .argument('<STORE_PATH>', STORE_PATH_FORMS)
    .addOption(
      new Option(
        '--ttl <duration>',
        'from now on, keep the path only this long (default: for ever)',
      ).argParser(durationArgument('1s')),
    )
    .example('tvix-store root add --ttl 7d ci-1234 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir')
    .action(async (name: string, text: string, flags: StoreFlags & { ttl?: number }) => {
      argument(() => checkRootName(name));
      const path = parseStorePath(text);
      const found = async (store: Store) => (await findPathInfo(store, path)).storePath;
      if (namesBucket(flags)) {
        const add = async (objects: ObjectStore, store: Store) =>
          new BucketRoots(objects).add(store.pathInfos, name, await found(store), flags.ttl);
        await withBucket(flags, add, 'change');
        return;
      }
      const add = async ({ env }: LocalStore, store: Store) =>
        new RootTable(env).add(name, await found(store), flags.ttl);
      await withLocalStore(flags, add, 'change');
    });
}

function removeCommand(): Command {
  return withStoreOptions(new Command('remove'))
    .summary('remove a root')
    .description(
      'Removes a root. What it kept is deleted by the next "tvix-store gc", unless something else holds it.',
    )
    .argument('<NAME>', 'name of the root')
    .example('tvix-store root remove ci-1234')
    .action(async (name: string, flags: StoreFlags) => {
      argument(() => checkRootName(name));
      if (namesBucket(flags))
        await withBucket(flags, (objects) => new BucketRoots(objects).remove(name), 'change');
      else await withLocalStore(flags, ({ env }) => new RootTable(env).remove(name), 'change');
    });
}

function listCommand(): Command {
  return withStoreOptions(new Command('list'))
    .summary('list the roots')
    .description('Lists the roots, the store paths that they keep, and until when.')
    .option('--json', 'print one JSON object per line')
    .example('tvix-store root list')
    .action(async (flags: StoreFlags & { json?: boolean }) => {
      const roots = namesBucket(flags)
        ? await withBucket(flags, (objects, _, signal) => new BucketRoots(objects).list(signal))
        : await withLocalStore(flags, ({ env }) => new RootTable(env).list());
      for (const one of roots) process.stdout.write(`${format(one, flags.json)}\n`);
    });
}

function format(root: Root, json = false): string {
  const path = root.storePath.absolute();
  const expires = root.expires === undefined ? undefined : new Date(root.expires * 1000).toISOString();
  if (json) return JSON.stringify({ name: root.name, path, ...(expires ? { expires } : {}) });
  const until = expires ? `\t${isExpired(root) ? 'expired' : 'until'} ${expires}` : '';
  return `${root.name}\t${path}${until}`;
}
