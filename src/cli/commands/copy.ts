import { existsSync, realpathSync } from 'node:fs';
import { STORE_DIR } from '../../nix/store-path.ts';
import { addRoots, RootTable } from '../../store/keeping/roots.ts';
import type { CopyPlan } from '../../store/moving/copy.ts';
import { STORE_PATH_FORMS } from '../../store/named-path.ts';
import { localDirectory } from '../../store/open/address.ts';
import { formatSize, latin1 } from '../../util/bytes.ts';
import { UsageError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Chosen } from '../chosen-paths.ts';
import { allOption, choosePaths } from '../chosen-paths.ts';
import { Command } from '../command.ts';
import type { EndFlags, Source, Target } from '../copy-ends.ts';
import { checkTarget, openSource, openTarget } from '../copy-ends.ts';
import { interruptible } from '../interruptible.ts';
import { withKeepFree } from '../keep-free.ts';
import { ProgressLine } from '../progress.ts';
import { namesStore, withReadOptions } from '../store-options.ts';

interface CopyFlags extends EndFlags {
  readonly all?: boolean;
  readonly roots?: boolean;
  readonly json?: boolean;
}

export function copyCommand(): Command {
  return withKeepFree(withReadOptions(new Command('copy')))
    .summary('copy store paths from one store to another')
    .description(
      'Copies store paths, and everything they refer to, from one store to another. Prints each path as soon ' +
        'as it is on disk there. What the other store already has is not sent again, even when an earlier copy ' +
        'was interrupted.',
    )
    .argument('[STORE_PATH...]', `what to copy: ${STORE_PATH_FORMS}`)
    .addOption(allOption())
    .option('--from <url>', `the store to copy from, or a Nix store: ${STORE_DIR} (default: --store)`)
    .option(
      '--to <url>',
      'the store to copy to, or a binary cache: nix+file:///dir, nix+https://host (default: --store)',
    )
    .option('--roots', 'between local stores: copy the roots that name these paths, too')
    .option('--no-closure', 'copy only these paths, without what they refer to')
    .option(
      '--reference-graph <file>',
      `copy what this JSON file describes (exportReferencesGraph, nix path-info --json) from ${STORE_DIR}; - is standard input`,
    )
    .option('--dry-run', 'copy nothing; print what would be copied, with the sizes of the NARs')
    .option('--json', 'print one JSON object at the end')
    .example(
      'tvix-store copy --to grpc+http://store.example:8000 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir',
      'tvix-store copy --from /nix/store "$(readlink -f result)"',
      'tvix-store copy --to nix+file:///srv/cache 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir',
      'tvix-store copy --all --roots --to local:///mnt/other/store',
    )
    .action(run);
}

async function run(names: string[], flags: CopyFlags, command: Command): Promise<void> {
  const chosen = choose(names, flags);
  checkTarget(flags);
  if (flags.from !== undefined && flags.to !== undefined && namesStore(command))
    throw new UsageError('with --from and --to, options that name a store have no effect: leave them out');
  checkPlaces(flags);
  await interruptible((signal) => copy(chosen, flags, signal));
}

/** Throws a UsageError for two names of one store, and for roots where they cannot be copied. */
function checkPlaces({ from, to, store, roots }: CopyFlags): void {
  const [source, target] = [from, to].map((address) => localDirectory(address ?? store));
  if (roots && (source === undefined || target === undefined))
    throw new UsageError('--roots works between local stores only; elsewhere, use tvix-store root add');
  if (source === undefined || target === undefined || !existsSync(source) || !existsSync(target)) return;
  if (realpathSync(source) === realpathSync(target))
    throw new UsageError(`${source} and ${target} are the same store`);
}

async function copy(chosen: Chosen | undefined, flags: CopyFlags, signal: AbortSignal): Promise<void> {
  const progress = { objects: 0, bytes: 0 };
  let copied = 0;
  let total = 0;
  const line = new ProgressLine(
    () => `${copied} of ${total} store paths, ${progress.objects} objects, ${formatSize(progress.bytes)}`,
  );
  // Where to comes last: what cannot be had from anywhere makes no store.
  const source = await openSource(chosen, flags, signal);
  let target: Target | undefined;
  try {
    target = await openTarget(flags, signal);
    const plan = await source.plan(target, signal);
    total = plan.paths.length;
    if (!flags.dryRun) {
      await source.copy(target, plan, {
        progress,
        onProgress: () => line.update(),
        onCopied: ({ storePath }) => {
          copied++;
          line.clear();
          if (!flags.json) process.stdout.write(`${storePath.absolute()}\n`);
        },
        signal,
      });
    }
    if (!flags.dryRun) await target.sign(plan, signal);
    line.clear();
    const roots = flags.roots && !flags.dryRun ? rootsToo(source, target, plan) : undefined;
    tell(plan, flags, progress.bytes, roots);
  } finally {
    line.clear();
    await source.close();
    await target?.close();
  }
}

/** The store paths to be copied; `undefined` when a reference graph names them. */
function choose(
  names: readonly string[],
  { all = false, from, to, referenceGraph }: CopyFlags,
): Chosen | undefined {
  if (referenceGraph !== undefined) {
    if (names.length > 0 || all)
      throw new UsageError('--reference-graph says what to copy; leave out STORE_PATH and --all');
    return undefined;
  }
  const chosen = choosePaths(names, all);
  if (from === undefined && to === undefined) throw new UsageError('say where to copy: --from, --to or both');
  return chosen;
}

function rootsToo({ local: from }: Source, { local: to }: Target, { paths, present }: CopyPlan): number {
  const copied = new Set([...paths, ...present].map(({ storePath }) => latin1(storePath.hash)));
  const roots = new RootTable(from!.env).list().filter(({ storePath }) => copied.has(latin1(storePath.hash)));
  const added = addRoots(to!.env, roots);
  for (const name of added.others)
    log.warn('a root of this name means another store path there, and still does', { name });
  return added.roots;
}

function tell(plan: CopyPlan, { dryRun, json }: CopyFlags, bytes: number, roots: number | undefined): void {
  const narSize = plan.paths.reduce((sum, path) => sum + path.narSize, 0n);
  const present = plan.present.length;
  const signed = plan.unsigned.length;
  if (json) {
    const paths = plan.paths.map((path) => ({
      path: path.storePath.absolute(),
      narSize: Number(path.narSize),
    }));
    const copied = dryRun ? {} : { copiedBytes: bytes };
    const result = { paths, narSize: Number(narSize), present, signed, ...copied, roots };
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  if (dryRun) {
    for (const path of plan.paths) process.stdout.write(`${path.storePath.absolute()} ${path.narSize}\n`);
  }
  log.info(dryRun ? 'would be copied' : 'copied', {
    paths: plan.paths.length,
    nars: formatSize(Number(narSize)),
    present,
    signed: signed || undefined,
    bytes: dryRun ? undefined : formatSize(bytes),
    roots,
  });
}
