import { Option } from 'commander';
import type { StoreStats } from '../../store/keeping/stats.ts';
import { statsOf } from '../../store/keeping/stats.ts';
import { formatSize } from '../../util/bytes.ts';
import { numberArgument } from '../arguments.ts';
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
    .summary('show what a local store holds')
    .description(
      'Counts what is in a local store: store paths, directories, blobs and chunks, with their apparent and ' +
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
  const stats = await withLocalStore(flags, (local) =>
    countingPaths((counted) => statsOf(local, flags.largest, counted)),
  );
  process.stdout.write(flags.json ? `${JSON.stringify(stats, undefined, 2)}\n` : describe(stats));
}

function describe(stats: StoreStats): string {
  const { unreferenced, database } = stats;
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
  ];
  if (stats.largest.length > 0) lines.push('', 'held by no other store path (size of its NAR):');
  for (const { path, narSize, ownSize } of stats.largest) {
    lines.push(`  ${formatSize(ownSize).padStart(10)} (${formatSize(narSize)})  ${path}`);
  }
  return `${lines.join('\n')}\n`;
}
