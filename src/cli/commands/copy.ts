import { Command } from 'commander';
import { STORE_DIR } from '../../nix/store-path.ts';
import type { CopyPlan } from '../../store/moving/copy.ts';
import { formatSize } from '../../util/bytes.ts';
import { UsageError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { EndFlags, Source } from '../copy-ends.ts';
import { openSource, openTarget } from '../copy-ends.ts';
import { interruptible } from '../interruptible.ts';
import { ProgressLine } from '../progress.ts';
import { withStoreOptions } from '../store-options.ts';

interface CopyFlags extends EndFlags {
  readonly json?: boolean;
}

export function copyCommand(): Command {
  return withStoreOptions(new Command('copy'))
    .summary('copy store paths from one store to another')
    .description(
      'Copies store paths with all that they refer to from one store to another, and prints each that was copied\n' +
        'when it is on disk there. What is there already does not go again, also when a copy was cut short.',
    )
    .argument('[STORE_PATH...]', 'what to copy; /nix/store/ may be left out, a bare hash will do')
    .option('--from <url>', `the store to copy from, or a Nix store: ${STORE_DIR} (default: --store)`)
    .option('--to <url>', 'the store to copy to, or a binary cache: nix+file:///dir (default: --store)')
    .option('--no-closure', 'leave out what they refer to')
    .option(
      '--reference-graph <file>',
      `copy what this JSON tells of (exportReferencesGraph, nix path-info --json) from ${STORE_DIR}; - is standard input`,
    )
    .option('--dry-run', 'only tell what would be copied, with the sizes of the NARs')
    .option('--json', 'print one JSON object at the end')
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store copy --to grpc+http://store.example:8000 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir\n' +
        '  tvix-store copy --from /nix/store "$(readlink -f result)"\n' +
        '  tvix-store copy --to nix+file:///srv/cache 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir',
    )
    .action(run);
}

async function run(names: string[], flags: CopyFlags): Promise<void> {
  check(names, flags);
  await interruptible((signal) => copy(names, flags, signal));
}

async function copy(names: readonly string[], flags: CopyFlags, signal: AbortSignal): Promise<void> {
  const target = await openTarget(flags);
  const progress = { objects: 0, bytes: 0 };
  let copied = 0;
  let total = 0;
  const line = new ProgressLine(
    () => `${copied} of ${total} store paths, ${progress.objects} objects, ${formatSize(progress.bytes)}`,
  );
  let source: Source | undefined;
  try {
    source = await openSource(names, flags, target);
    const plan = await source.plan(signal);
    total = plan.paths.length;
    if (!flags.dryRun) {
      await source.copy(plan, {
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
    line.clear();
    tell(plan, flags, progress.bytes);
  } finally {
    line.clear();
    await source?.close();
    await target.close();
  }
}

function check(names: readonly string[], { from, to, referenceGraph }: CopyFlags): void {
  if (referenceGraph !== undefined) {
    if (names.length > 0)
      throw new UsageError('--reference-graph tells what to copy; STORE_PATH is too much');
    return;
  }
  if (names.length === 0) throw new UsageError('say what to copy: STORE_PATH..., or --reference-graph');
  if (from === undefined && to === undefined) throw new UsageError('say where: --from, --to or both');
}

function tell(plan: CopyPlan, { dryRun, json }: CopyFlags, bytes: number): void {
  const narSize = plan.paths.reduce((sum, path) => sum + path.narSize, 0n);
  const present = plan.present.length;
  if (json) {
    const paths = plan.paths.map((path) => ({
      path: path.storePath.absolute(),
      narSize: Number(path.narSize),
    }));
    const copied = dryRun ? {} : { copiedBytes: bytes };
    process.stdout.write(`${JSON.stringify({ paths, narSize: Number(narSize), present, ...copied })}\n`);
    return;
  }
  if (dryRun) {
    for (const path of plan.paths) process.stdout.write(`${path.storePath.absolute()} ${path.narSize}\n`);
  }
  log.info(dryRun ? 'would be copied' : 'copied', {
    paths: plan.paths.length,
    nars: formatSize(Number(narSize)),
    present,
    bytes: dryRun ? undefined : formatSize(bytes),
  });
}
