import { Option } from 'commander';
import { STORE_PATH_HASH_LENGTH } from '../../nix/store-path.ts';
import { checkBucket, repairBucket } from '../../store/keeping/bucket/fsck.ts';
import type { CheckReport, DamagedPath } from '../../store/keeping/check/report.ts';
import type { OnRows } from '../../store/keeping/check/scan.ts';
import type { RepairReport } from '../../store/keeping/fsck.ts';
import { checkOn, checkStore, repairStore } from '../../store/keeping/fsck.ts';
import { openStore } from '../../store/open/open-store.ts';
import type { Services } from '../../store/services.ts';
import { formatSize } from '../../util/bytes.ts';
import { UsageError } from '../../util/errors.ts';
import { durationArgument, rateArgument } from '../arguments.ts';
import { namesBucket, withBucket } from '../bucket.ts';
import { Command } from '../command.ts';
import { localStoreDirectory } from '../local-store.ts';
import { ProgressLine } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

interface FsckFlags extends StoreFlags {
  readonly repair?: boolean;
  readonly from?: string;
  readonly budget?: number;
  readonly rate?: number;
  readonly json?: boolean;
}

/** Damages that are named one by one. */
const MOST_NAMED = 100;
/** The hash of no store path. */
const NOBODY = Buffer.alloc(STORE_PATH_HASH_LENGTH);

export function fsckCommand(): Command {
  return withStoreOptions(new Command('fsck'))
    .summary('check a local store or a bucket, and repair it')
    .description(
      'Checks every row of a local store, or every object of a bucket, against its key or checksum, checks every chunk ' +
        'file, and checks that no part of a store path is missing, nor any that it refers to. Names the store paths that are affected, and ' +
        'ends with exit code 1 if there are any.',
    )
    .option(
      '--repair',
      'remove what is damaged, so that it is fetched or imported again; a damaged database is rebuilt from what is ' +
        'good, if nothing else uses the store. Ends with exit code 1 if a store path could not be restored',
    )
    .option('--from <url>', 'with --repair: get what is damaged or missing from this store')
    .addOption(
      new Option('--budget <duration>', 'stop after so long, and go on there the next time; for a timer')
        .argParser(durationArgument('1s'))
        .conflicts('repair'),
    )
    .addOption(
      new Option('--rate <size>', 'read no more than so much in a second')
        .argParser(rateArgument)
        .conflicts('repair'),
    )
    .option('--json', 'print one JSON object')
    .example(
      'tvix-store fsck',
      'tvix-store fsck --budget 10m --rate 100M',
      'tvix-store fsck --repair --from grpc+http://store.example:8000',
    )
    .action(run);
}

async function run(flags: FsckFlags): Promise<void> {
  const dir = localStoreDirectory(flags);
  const isBucket = namesBucket(flags);
  if (dir === undefined && !isBucket)
    throw new UsageError(`this works on local stores and buckets, not on ${flags.store}`);
  if (flags.budget !== undefined && isBucket) throw new UsageError('--budget is for local stores');
  if (flags.from !== undefined && !flags.repair)
    throw new UsageError('--from changes the store: it goes with --repair');
  if (flags.repair) await repair(flags, repairing(dir, flags));
  else if (flags.budget !== undefined) await goOn(dir!, flags.budget, flags);
  else await check(flags, checking(dir, flags));
}

/** What a repair has done, whatever it was done to. */
type Repaired = Omit<RepairReport, 'rebuilt'>;

function checking(dir: string | undefined, flags: FsckFlags): (onRows: OnRows) => Promise<CheckReport> {
  if (dir !== undefined) return (onRows) => checkStore(dir, onRows, flags.rate);
  return (onRows) =>
    withBucket(flags, (objects, _, signal) => checkBucket(objects, onRows, flags.rate, signal));
}

function repairing(
  dir: string | undefined,
  flags: FsckFlags,
): (onRows: OnRows, from: Services | undefined) => Promise<Repaired> {
  if (dir !== undefined) return (onRows, from) => repairStore(dir, from, onRows);
  return (onRows, from) =>
    withBucket(
      flags,
      (objects, store, signal) => repairBucket(objects, store, onRows, from, signal),
      'change',
    );
}

/** Checks a part. */
async function goOn(dir: string, budget: number, flags: FsckFlags): Promise<void> {
  const begun = performance.now();
  const { since, ...report } = await showing((onRows) =>
    checkOn(dir, { budgetMs: budget * 1000, rate: flags.rate }, onRows),
  );
  const seconds = (performance.now() - begun) / 1000;
  const isSoFar = isSound(report);
  if (flags.json) {
    const { begun: first, objects, bytes } = since;
    const all = { begun: new Date(first).toISOString(), objects, bytes };
    print(JSON.stringify({ ...report, seconds, complete: report.next === undefined, since: all }));
  } else {
    describe(report);
    const checked = `${report.objects} rows, ${formatSize(report.bytes)} checked in ${seconds.toFixed(1)} s`;
    const state = report.next
      ? `${since.objects} of ${report.total} rows since ${new Date(since.begun).toISOString()}, the next run goes on there`
      : `that was the last part of all ${since.objects} rows`;
    print(`${checked}; ${state}: ${isSoFar ? 'all is well' : `${told(report)}; --repair mends that`}`);
  }
  if (!isSoFar) process.exitCode = 1;
}

async function check(flags: FsckFlags, work: (onRows: OnRows) => Promise<CheckReport>): Promise<void> {
  const begun = performance.now();
  const report = await showing(work);
  const seconds = (performance.now() - begun) / 1000;
  if (flags.json) print(JSON.stringify({ ...report, seconds }));
  else {
    describe(report);
    print(
      `${report.objects} rows, ${formatSize(report.bytes)} checked in ${seconds.toFixed(1)} s: ` +
        (isSound(report) ? 'all is well' : `${told(report)}; --repair mends that`),
    );
  }
  if (!isSound(report)) process.exitCode = 1;
}

async function repair(
  flags: FsckFlags,
  work: (onRows: OnRows, from: Services | undefined) => Promise<Repaired>,
): Promise<void> {
  const { from: url } = flags;
  const from =
    url === undefined ? undefined : await openStore(addressesOf({ store: url, cache: flags.cache }), 'read');
  try {
    // Whether it can be asked at all shows before anything is taken out.
    await from?.pathInfos.describe(NOBODY);
    const report = await showing((onRows) => work(onRows, from));
    if (flags.json) print(JSON.stringify(report));
    else {
      describe(report.found);
      name('restored', report.restored);
      name('taken out of service', report.removed);
      print(
        isSound(report.found)
          ? 'all is well'
          : `repaired: ${report.restored.length} store paths restored, ${report.removed.length} to be fetched or imported again` +
              (report.missing.length > 0 ? `, ${report.missing.length} missing that others refer to` : ''),
      );
    }
    if (report.removed.length + report.missing.length > 0) process.exitCode = 1;
  } finally {
    await from?.close();
  }
}

/** Shows which table is looked at. */
async function showing<T>(work: (onRows: OnRows) => Promise<T>): Promise<T> {
  let table = '';
  const line = new ProgressLine(() => `checking: ${table}`);
  try {
    return await work((at) => {
      table = at;
      line.update();
    });
  } finally {
    line.clear();
  }
}

function isSound({ structure, damages, paths, hidden, missing }: CheckReport): boolean {
  return structure.length + damages.length + paths.length + hidden.length + missing.length === 0;
}

function told({ paths, hidden, missing }: CheckReport): string {
  const incomplete = missing.length > 0 ? `, ${missing.length} that others refer to are missing` : '';
  return `${paths.length} store paths are damaged${hidden.length > 0 ? `, ${hidden.length} are hidden` : ''}${incomplete}`;
}

function describe({ structure, damages, paths, hidden, missing }: CheckReport): void {
  for (const what of structure) print(`the database: ${what}`);
  for (const { table, key, problem } of damages.slice(0, MOST_NAMED)) print(`${table} ${key}: ${problem}`);
  if (damages.length > MOST_NAMED) print(`and ${damages.length - MOST_NAMED} more`);
  name('damaged', paths);
  for (const path of hidden)
    print(`hidden: ${path}\ta collection was cut short; whoever writes next puts it back`);
  name('missing', missing);
}

function name(what: string, paths: readonly DamagedPath[]): void {
  for (const { path, problems } of paths) print(`${what}: ${path}\t${problems.join('; ')}`);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
