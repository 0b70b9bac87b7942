import { Option } from 'commander';
import { evict } from '../../castore/local/evictor.ts';
import { RecentUse } from '../../castore/local/recent-use.ts';
import { GRACE_MS } from '../../castore/objects/reliance.ts';
import { collectBucket } from '../../store/keeping/bucket/gc.ts';
import type { EvictedPath } from '../../store/keeping/eviction.ts';
import { foreseeEviction } from '../../store/keeping/eviction.ts';
import type { GcReport } from '../../store/keeping/gc.ts';
import { collectGarbage } from '../../store/keeping/gc.ts';
import type { PathInfo } from '../../store/path-info/path-info.ts';
import { formatSize } from '../../util/bytes.ts';
import { UsageError } from '../../util/errors.ts';
import { durationArgument, sizeArgument } from '../arguments.ts';
import { namesBucket, withBucket } from '../bucket.ts';
import { Command } from '../command.ts';
import { withLocalStore } from '../local-store.ts';
import { countingPaths } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

interface GcFlags extends StoreFlags {
  readonly olderThan: number;
  readonly maxSize?: number;
  readonly grace?: number;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function gcCommand(): Command {
  return withStoreOptions(new Command('gc'))
    .summary('delete the store paths that nothing holds')
    .description(
      'Deletes the store paths of a local store or a bucket that nothing holds, and everything that only they refer to. A ' +
        'path is held by a root, by a running mount in which it was looked up, by a recent import or upload, ' +
        'or question of a client, by a process that has just written it, and by a reference from a path that is held. It is safe ' +
        'to run while mounts, imports and daemons use the store. Of a bucket, it lists everything, and takes a while.',
    )
    .addOption(
      new Option(
        '--older-than <duration>',
        'delete only what has not been added, or asked for by those who write, for this long; 0 for all',
      )
        .argParser(durationArgument())
        .default(3600, '1h'),
    )
    .addOption(
      new Option(
        '--max-size <size>',
        'for a cache, which has no roots, in place of --older-than: evict what was used least recently until it is no ' +
          'larger than this',
      )
        .argParser(sizeArgument)
        .conflicts('olderThan'),
    )
    .addOption(
      new Option(
        '--grace <duration>',
        'for a bucket: leave alone what was uploaded within this time, whatever refers to it (default: 1d). With less, ' +
          'uploads that meet the collection fail and have to be made again',
      )
        .argParser(durationArgument())
        .conflicts('maxSize'),
    )
    .option(
      '-n, --dry-run',
      'delete nothing; print every store path, and whether it would go or what holds it; with --max-size, the store ' +
        'paths that would lose something',
    )
    .option('--json', 'print one JSON object of totals; with --dry-run, preceded by one for each store path')
    .example('tvix-store gc --dry-run', 'tvix-store gc --older-than 7d')
    .action(run);
}

async function run(flags: GcFlags): Promise<void> {
  const { olderThan, maxSize, grace, dryRun = false } = flags;
  const isBucket = namesBucket(flags);
  if (grace !== undefined && !isBucket) throw new UsageError('--grace is for buckets');
  if (maxSize !== undefined) return shrink(flags, maxSize);
  const onPath = ({ storePath, narSize }: PathInfo, heldBy: string | undefined) => {
    if (!dryRun) return;
    const path = storePath.absolute();
    const line = flags.json
      ? JSON.stringify({ path, narSize: Number(narSize), ...(heldBy ? { heldBy } : {}) })
      : `${heldBy ? `kept   ${path}\theld by ${heldBy}` : `freed  ${path}`}`;
    process.stdout.write(`${line}\n`);
  };
  const report = await countingPaths((onProgress) => {
    const options = { olderThan, dryRun, onPath, onProgress };
    if (!isBucket) return withLocalStore(flags, (local) => collectGarbage(local, options), 'change');
    const graceMs = grace === undefined ? GRACE_MS : grace * 1000;
    return withBucket(
      flags,
      (objects, _, signal) => collectBucket(objects, { ...options, graceMs, signal }),
      dryRun ? 'read' : 'change',
    );
  });
  process.stdout.write(`${flags.json ? JSON.stringify(report) : describe(report, dryRun)}\n`);
}

async function shrink(flags: GcFlags, size: number): Promise<void> {
  const onPath = ({ path, freed }: EvictedPath) =>
    process.stdout.write(
      `${flags.json ? JSON.stringify({ path, freed }) : `freed  ${path}\t${formatSize(freed)} of it`}\n`,
    );
  const report = await withLocalStore(
    flags,
    (local) => {
      const { env } = local;
      if (env.kind !== 'cache') {
        throw new UsageError(
          `--max-size is for caches, and ${env.dir} is a store: what to keep in it is said by roots`,
        );
      }
      return flags.dryRun ? foreseeEviction(local, size, onPath) : evict(env, new RecentUse(env), size);
    },
    flags.dryRun ? 'read' : 'change',
  );
  const { freed, size: left } = report;
  const [would, be] = flags.dryRun ? ['would free', 'would be'] : ['freed', 'are'];
  process.stdout.write(
    `${flags.json ? JSON.stringify(report) : `${would} ${formatSize(freed)}; ${formatSize(left)} ${be} left`}\n`,
  );
}

function describe(report: GcReport, dryRun: boolean): string {
  const objects = report.directories + report.manifests + report.chunks;
  return (
    `${dryRun ? 'would free' : 'freed'} ${report.paths} store paths, ${objects} objects, ` +
    `${formatSize(report.bytes)}; ${report.kept} store paths are left`
  );
}
