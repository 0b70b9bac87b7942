import { Option } from 'commander';
import type { BucketStats } from '../../store/keeping/bucket/stats.ts';
import { statsOfBucket } from '../../store/keeping/bucket/stats.ts';
import type { CheckRecord } from '../../store/keeping/check/record.ts';
import { isAllWell } from '../../store/keeping/check/record.ts';
import type { StoreStats } from '../../store/keeping/stats.ts';
import { statsOf } from '../../store/keeping/stats.ts';
import { formatSize } from '../../util/bytes.ts';
import { numberArgument } from '../arguments.ts';
import { namesBucket, withBucket } from '../bucket.ts';
import { Command } from '../command.ts';
import { withLocalStore } from '../local-store.ts';
import { countingPaths } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

interface StatsFlags extends StoreFlags {
  readonly json?: boolean;
  readonly largest: number;
}

export function statsCommand(): Command {
  return withStoreOptions(new Command('stats'))
    .summary('show what a local store or a bucket holds')
    .description(
      'Counts what is in a local store or a bucket: store paths, directories, blobs and chunks, with their apparent and ' +
        'stored sizes, and the store paths that hold the most data that no other path refers to.',
    )
    .addOption(
      new Option('--largest <n>', 'how many store paths to name')
        .argParser(numberArgument(0, 1_000_000))
        .default(10),
    )
    .option('--json', 'print one JSON object, with sizes in bytes')
    .example('tvix-store stats --largest 3')
    .action(run);
}

async function run(flags: StatsFlags): Promise<void> {
  if (namesBucket(flags)) {
    const stats = await countingPaths((counted) =>
      withBucket(flags, (objects, _, signal) => statsOfBucket(objects, counted, signal)),
    );
    process.stdout.write(flags.json ? `${JSON.stringify(stats, undefined, 2)}\n` : describeBucket(stats));
    return;
  }
  const stats = await withLocalStore(flags, (local) =>
    countingPaths((counted) => statsOf(local, flags.largest, counted)),
  );
  process.stdout.write(flags.json ? `${JSON.stringify(toJson(stats), undefined, 2)}\n` : describe(stats));
}

function toJson({ check: { last, running }, ...stats }: StoreStats) {
  return {
    ...stats,
    lastCheck: last && {
      ...last,
      begun: date(last.begun),
      finished: date(last.finished),
      isSound: isAllWell(last),
    },
    runningCheck: running && {
      begun: date(running.begun),
      objects: running.objects,
      bytes: running.bytes,
      damages: running.damages.length,
    },
  };
}

function describeCheck({ last, running }: CheckRecord): string {
  const found =
    last &&
    `${last.damagedPaths} store paths damaged, ${last.missingPaths} missing, ${last.hiddenPaths} hidden${last.isRepaired ? '; repaired' : ''}`;
  const finished = last ? `${date(last.finished)}: ${isAllWell(last) ? 'all was well' : found}` : 'never';
  const bad = running && running.damages.length > 0 ? `, ${running.damages.length} of them damaged` : '';
  return finished + (running ? `; the next one has looked at ${running.objects} rows${bad}` : '');
}

function date(ms: number): string {
  return new Date(ms).toISOString();
}

function describeBucket(stats: BucketStats): string {
  const { unreferenced } = stats;
  const lines = [
    `store paths:   ${stats.paths}`,
    `directories:   ${stats.directories} trees`,
    `blobs:         ${stats.blobs} of several chunks`,
    `chunks:        ${stats.chunks}`,
    `as they are:   ${formatSize(stats.apparentSize)} (the NARs of all store paths)`,
    `stored:        ${formatSize(stats.storedSize)}`,
    `unreferenced:  ${formatSize(unreferenced.size)} in ${unreferenced.objects} objects`,
  ];
  return `${lines.join('\n')}\n`;
}

function describe(stats: StoreStats): string {
  const { unreferenced, database, files } = stats;
  const unnamed =
    files.unnamed.files > 0
      ? `, ${formatSize(files.unnamed.bytes)} of it in ${files.unnamed.files} files that nothing refers to yet, or any longer`
      : '';
  const lines = [
    `store paths:   ${stats.paths}`,
    `directories:   ${stats.directories}`,
    `blobs:         ${stats.blobs}`,
    `chunks:        ${stats.chunks}, ${stats.chunkFiles} of them in files`,
    `as they are:   ${formatSize(stats.apparentSize)} (the NARs of all store paths)`,
    `stored:        ${formatSize(stats.storedSize)}`,
    `saved:         ${formatSize(stats.savedSize)} by keeping what is the same once`,
    `unreferenced:  ${formatSize(unreferenced.size)} in ${unreferenced.objects} objects`,
    `database:      ${formatSize(database.bytes)}, ${formatSize(database.used)} of it in use`,
    `on the disk:   ${formatSize(files.all.bytes)} in ${files.all.files} chunk files${unnamed}`,
    `last check:    ${describeCheck(stats.check)}`,
  ];
  if (stats.largest.length > 0) lines.push('', 'held by no other store path (size of its NAR):');
  for (const { path, narSize, ownSize } of stats.largest) {
    lines.push(`  ${formatSize(ownSize).padStart(10)} (${formatSize(narSize)})  ${path}`);
  }
  return `${lines.join('\n')}\n`;
}
