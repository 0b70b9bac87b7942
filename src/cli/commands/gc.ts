import { Option } from 'commander';
import { evict } from '../../castore/local/evictor.ts';
import { RecentUse } from '../../castore/local/recent-use.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { GcReport } from '../../store/keeping/gc.ts';
import { collectGarbage } from '../../store/keeping/gc.ts';
import { formatSize } from '../../util/bytes.ts';
import { UsageError } from '../../util/errors.ts';
import { durationArgument, sizeArgument } from '../arguments.ts';
import { Command } from '../command.ts';
import { withLocalStore } from '../local-store.ts';
import { countingPaths } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

interface GcFlags extends StoreFlags {
  readonly olderThan: number;
  readonly maxSize?: number;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function gcCommand(): Command {
  return withStoreOptions(new Command('gc'))
    .summary('delete the store paths that nothing holds')
    .description(
      'Deletes the store paths of a local store that nothing holds, and everything that only they refer to. A ' +
        'path is held by a root, by a running mount in which it was looked up, by a recent import, upload or ' +
        'lookup, by a process that has just written it, and by a reference from a path that is held. It is safe ' +
        'to run while mounts, imports and daemons use the store.',
    )
    .addOption(
      new Option(
        '--older-than <duration>',
        'delete only what has not been added or looked up for this long: 0, 90m, 12h, 7d',
      )
        .argParser(durationArgument())
        .default(3600, '1h'),
    )
    .addOption(
      new Option(
        '--max-size <size>',
        'for a cache: evict what was used least recently until it is no larger than this: 500M, 20G',
      )
        .argParser(sizeArgument)
        .conflicts(['olderThan', 'dryRun']),
    )
    .option(
      '-n, --dry-run',
      'delete nothing; print every store path, and whether it would go or what holds it',
    )
    .option('--json', 'print one JSON object of totals; with --dry-run, preceded by one for each store path')
    .example('tvix-store gc --dry-run', 'tvix-store gc --older-than 7d')
    .action(run);
}

async function run(flags: GcFlags): Promise<void> {
  const dryRun = flags.dryRun ?? false;
  if (flags.maxSize !== undefined) return shrink(flags, flags.maxSize);
  const collect = (local: LocalStore) =>
    countingPaths((onProgress) =>
      collectGarbage(local, {
        onProgress,
        olderThan: flags.olderThan,
        dryRun,
        onPath: ({ storePath, narSize }, heldBy) => {
          if (!dryRun) return;
          const path = storePath.absolute();
          const line = flags.json
            ? JSON.stringify({ path, narSize: Number(narSize), ...(heldBy ? { heldBy } : {}) })
            : `${heldBy ? `kept   ${path}\theld by ${heldBy}` : `freed  ${path}`}`;
          process.stdout.write(`${line}\n`);
        },
      }),
    );
  const report = await withLocalStore(flags, collect, 'change');
  process.stdout.write(`${flags.json ? JSON.stringify(report) : describe(report, dryRun)}\n`);
}

async function shrink(flags: GcFlags, size: number): Promise<void> {
  const report = await withLocalStore(
    flags,
    ({ env }) => {
      if (env.kind === 'cache') return evict(env, new RecentUse(env), size);
      throw new UsageError(
        `--max-size is for caches, and ${env.dir} is a store: what to keep in it is said by roots`,
      );
    },
    'change',
  );
  const { freed, size: left } = report;
  process.stdout.write(
    `${flags.json ? JSON.stringify(report) : `freed ${formatSize(freed)}; ${formatSize(left)} are left`}\n`,
  );
}

function describe(report: GcReport, dryRun: boolean): string {
  const objects = report.directories + report.manifests + report.chunks;
  return (
    `${dryRun ? 'would free' : 'freed'} ${report.paths} store paths, ${objects} objects, ` +
    `${formatSize(report.bytes)}; ${report.kept} store paths are left`
  );
}
