import { Command, Option } from 'commander';
import { StorePath } from '../../nix/store-path.ts';
import type { Root } from '../../store/keeping/roots.ts';
import { isExpired, RootTable } from '../../store/keeping/roots.ts';
import { durationArgument } from '../arguments.ts';
import { withLocalStore } from '../local-store.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

export function rootCommand(): Command {
  const root = new Command('root')
    .summary('name what a collection of garbage leaves')
    .description('Roots hold store paths, and all that they refer to, against `tvix-store gc`.')
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store root add release-1.2 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir\n' +
        '  tvix-store root add --ttl 7d ci-1234 /nix/store/8vbqaxapywkvv1hacdja3pi075r14d43-a_dir\n' +
        '  tvix-store root list',
    );
  root.addCommand(
    withStoreOptions(new Command('add'))
      .summary('add a root, or point it elsewhere')
      .argument('<name>')
      .argument('<STORE_PATH>', '/nix/store/ may be left out')
      .addOption(
        new Option('--ttl <duration>', 'holds for so long only: 90m, 12h, 7d').argParser(durationArgument),
      )
      .addHelpText(
        'after',
        '\nExample:\n  tvix-store root add --ttl 7d ci-1234 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir',
      )
      .action((name: string, path: string, flags: StoreFlags & { ttl?: number }) =>
        withLocalStore(flags, ({ env }) => {
          const storePath = StorePath.parse(path.replace(/^\/nix\/store\//, ''));
          new RootTable(env).add(name, storePath, flags.ttl);
        }),
      ),
  );
  root.addCommand(
    withStoreOptions(new Command('remove'))
      .summary('remove a root')
      .argument('<name>')
      .addHelpText('after', '\nExample:\n  tvix-store root remove ci-1234')
      .action((name: string, flags: StoreFlags) =>
        withLocalStore(flags, ({ env }) => new RootTable(env).remove(name)),
      ),
  );
  root.addCommand(
    withStoreOptions(new Command('list'))
      .summary('list the roots')
      .option('--json', 'one JSON object a line')
      .addHelpText('after', '\nExample:\n  tvix-store root list')
      .action((flags: StoreFlags & { json?: boolean }) =>
        withLocalStore(flags, ({ env }) => {
          for (const one of new RootTable(env).list()) process.stdout.write(`${format(one, flags.json)}\n`);
        }),
      ),
  );
  return root;
}

function format(root: Root, json = false): string {
  const path = root.storePath.absolute();
  const expires = root.expires === undefined ? undefined : new Date(root.expires * 1000).toISOString();
  if (json) return JSON.stringify({ name: root.name, path, ...(expires ? { expires } : {}) });
  const until = expires ? `\t${isExpired(root) ? 'expired' : 'until'} ${expires}` : '';
  return `${root.name}\t${path}${until}`;
}
