/**
 * Measures the mount and the import beside the native file system and the other driver, and a store that is
 * far beside a near one and bare grpc-js, in one run: medians of several rounds, the columns of each round
 * in mixed order. See `--help`.
 */
import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, release, tmpdir, totalmem } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { cacheExperiments, STATIC_COLUMN } from './binary-cache.ts';
import type { Experiment } from './experiment.ts';
import { experiments } from './experiments.ts';
import { GUEST_COLUMN, guestExperiments } from './guest.ts';
import { keepingExperiments } from './keeping.ts';
import { movingExperiments } from './moving.ts';
import { nixDaemonExperiments } from './nix-daemon.ts';
import { outboardExperiments } from './outboards.ts';
import { stopEverything } from './processes.ts';
import { REMOTE_COLUMNS, remoteExperiments } from './remote.ts';
import type { Result } from './report.ts';
import { summary, table } from './report.ts';
import { S3_COLUMNS, s3Experiments } from './s3.ts';
import { shuffled } from './statistics.ts';
import { writeSourceTree } from './trees.ts';
import { Workspace } from './workspace.ts';

/** Each has a table of its own. */
const GROUPS = [
  experiments,
  guestExperiments,
  remoteExperiments,
  movingExperiments,
  cacheExperiments,
  nixDaemonExperiments,
  keepingExperiments,
  outboardExperiments,
  s3Experiments,
];
const NAMES = GROUPS.flat().map(({ name }) => name);
const HELP = `npm run bench -- [options]

  --only NAME,...    only these: ${NAMES.join(', ')}
  --rounds N         rounds of each (default 5; the heavy ones take 3 at most, memory 1)
  --against DIR      a column for this tree, mounted by somebody else
  --write-tree DIR   only write the benchmark's tree to DIR, for --against
  --json             print JSON, with the figures of every round

Everything is done in a temporary folder of BENCH_DIR (default: the system's), which should be on a disk.`;

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: NAMES.join(',') },
    rounds: { type: 'string', default: '5' },
    against: { type: 'string' },
    'write-tree': { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const chosen = options.only.split(',');
const unknown = chosen.filter((name) => !NAMES.includes(name));
const rounds = Number(options.rounds);

if (options.help) console.log(HELP);
else if (unknown.length > 0) refuse(`no such row: ${unknown.join(', ')}; there are ${NAMES.join(', ')}`);
else if (!(rounds >= 1)) refuse('--rounds takes a number from 1');
else if (options['write-tree']) writeSourceTree(options['write-tree']);
else await bench();

function refuse(message: string): void {
  console.error(`error: ${message}`);
  process.exitCode = 2;
}

async function bench(): Promise<void> {
  const workspace = new Workspace(
    process.env.BENCH_DIR ?? tmpdir(),
    options.against && resolve(options.against),
  );
  const cleanUp = async () => {
    await stopEverything();
    await workspace.remove();
  };
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => cleanUp().finally(() => process.exit(1)));
  }
  try {
    const machine = machineFacts(workspace.directory);
    progress(Object.values(machine).join(', '));
    const columns = await usableColumns(workspace);
    const groups: Result[][] = [];
    for (const group of GROUPS) {
      const lines: Result[] = [];
      for (const experiment of group.filter(({ name }) => chosen.includes(name))) {
        lines.push(...(await results(experiment, columns, workspace)));
      }
      if (lines.length > 0) groups.push(lines);
    }
    if (options.json) console.log(JSON.stringify({ machine, lines: groups.flat() }, undefined, 2));
    else {
      const tables = groups.map((lines) => table(lines, columns)).join('\n\n');
      console.log(`\n${tables}\n\nIn brackets: times native.`);
    }
  } finally {
    await cleanUp();
  }
}

/** The columns whose driver starts here, and those that are no mount on this machine. */
async function usableColumns(workspace: Workspace): Promise<string[]> {
  const columns = ['native'];
  for (const column of ['tvix-store', 'fuse-native']) {
    try {
      await (await workspace.mount(column, workspace.freshFolder())).stop();
      columns.push(column);
    } catch (error) {
      progress(`${column} is left out: ${messageOf(error)}`);
    }
  }
  if (workspace.against) columns.push('against');
  try {
    execFileSync('nix-store', ['--version'], { stdio: 'ignore' });
    columns.push('nix');
  } catch {
    progress('nix is left out: there is no nix-store');
  }
  columns.push(GUEST_COLUMN, ...REMOTE_COLUMNS, STATIC_COLUMN);
  const wanted = GROUPS.flat().some(
    ({ name, columns: all }) => chosen.includes(name) && all.some((column) => S3_COLUMNS.includes(column)),
  );
  try {
    if (wanted) await workspace.s3();
    columns.push(...S3_COLUMNS);
  } catch (error) {
    progress(`S3 is left out: ${messageOf(error)}`);
  }
  return columns;
}

/** All rounds of an experiment, as the lines of the table. */
async function results(
  experiment: Experiment,
  usable: readonly string[],
  workspace: Workspace,
): Promise<Result[]> {
  const { name, columns, lines, mostRounds = rounds } = experiment;
  const measured = columns.filter((column) => usable.includes(column));
  const figures: Record<string, Record<string, number[]>> = Object.fromEntries(
    Object.keys(lines).map((key) => [key, Object.fromEntries(measured.map((column) => [column, []]))]),
  );
  const count = Math.min(rounds, mostRounds);
  for (let round = 1; round <= count; round++) {
    progress(`${name}, round ${round} of ${count}`);
    for (const column of shuffled(measured)) {
      try {
        for (const [key, figure] of Object.entries(await experiment.measure(column, workspace))) {
          if (figure !== undefined) figures[key]![column]!.push(figure);
        }
      } catch (error) {
        progress(`${name} failed in ${column}: ${messageOf(error)}`);
      }
    }
  }
  return Object.entries(lines).map(([key, line]) => summary({ name, ...line }, figures[key]!));
}

function machineFacts(directory: string): Record<string, string> {
  const [, fileSystem] = execFileSync('df', ['--output=fstype', directory], { encoding: 'utf8' }).split('\n');
  return {
    processor: `${availableParallelism()} x ${cpus()[0]!.model.trim()}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: `Linux ${release()}`,
    node: `Node ${process.version}`,
    disk: `temporary folder on ${fileSystem}`,
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function progress(message: string): void {
  process.stderr.write(`${message}\n`);
}
