import { createReadStream } from 'node:fs';
import { Command } from 'commander';
import { STORE_DIR } from '../../nix/store-path.ts';
import type { CopyPlan } from '../../store/copy.ts';
import { copyPaths, planCopy } from '../../store/copy.ts';
import { askNix, copyFromFiles, MAX_JSON_LENGTH, planImport } from '../../store/nix-store.ts';
import { parseNixJson } from '../../store/path-info/nix-json.ts';
import type { PathDescription } from '../../store/path-info/path-info.ts';
import { openStore } from '../../store/store.ts';
import { asBuffer, collect, formatSize } from '../../util/bytes.ts';
import { invalid, UsageError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { interruptible } from '../interruptible.ts';
import { ProgressLine } from '../progress.ts';
import { findStorePaths } from '../resolve.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

interface Flags extends StoreFlags {
  readonly from?: string;
  readonly to?: string;
  readonly closure: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
  readonly referenceGraph?: string;
}

type Progress = Parameters<typeof copyPaths>[3] & {};

/** Where to copy from: what to copy, and how. */
interface Source {
  plan(signal: AbortSignal): Promise<CopyPlan>;
  copy(plan: CopyPlan, progress: Progress): Promise<void>;
  close(): Promise<void>;
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
    .option('--to <url>', 'the store to copy to (default: --store)')
    .option('--no-closure', 'leave out what they refer to')
    .option(
      '--reference-graph <file>',
      `copy what this JSON tells of (of exportReferencesGraph, or nix path-info --json), from ${STORE_DIR}; - is standard input`,
    )
    .option('--dry-run', 'only tell what would be copied, with the sizes of the NARs')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store copy --to grpc+http://store.example:8000 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir\n' +
        '  tvix-store copy --from /nix/store "$(readlink -f result)"',
    )
    .action(run);
}

async function run(names: string[], flags: Flags): Promise<void> {
  check(names, flags);
  const to = await openStore(
    flags.to === undefined ? addressesOf(flags) : at(flags.to, flags),
    flags.dryRun ? 'read' : 'write',
  );
  const progress = { objects: 0, bytes: 0 };
  const copied: PathDescription[] = [];
  let total = 0;
  const line = new ProgressLine(
    () =>
      `${copied.length} of ${total} store paths, ${progress.objects} objects, ${formatSize(progress.bytes)}`,
  );
  let source: Source | undefined;
  try {
    const from = await openSource(names, flags, to);
    source = from;
    await interruptible(async (signal) => {
      const plan = await from.plan(signal);
      total = plan.paths.length;
      if (!flags.dryRun) {
        await from.copy(plan, {
          progress,
          onProgress: () => line.update(),
          onCopied: (info) => {
            copied.push(info);
            line.clear();
            if (!flags.json) process.stdout.write(`${info.storePath.absolute()}\n`);
          },
          signal,
        });
      }
      tell(plan, flags, progress.bytes);
    });
  } finally {
    line.clear();
    await source?.close();
    await to.close();
  }
}

function check(names: readonly string[], { from, to, referenceGraph }: Flags): void {
  if (referenceGraph !== undefined) {
    if (names.length > 0)
      throw new UsageError('--reference-graph tells what to copy; STORE_PATH is too much');
    return;
  }
  if (names.length === 0) throw new UsageError('say what to copy: STORE_PATH..., or --reference-graph');
  if (from === undefined && to === undefined) throw new UsageError('say where: --from, --to or both');
}

function at(address: string, flags: Flags) {
  return { blobs: address, directories: address, pathInfos: address, cacheDir: flags.cache };
}

async function openSource(
  names: readonly string[],
  flags: Flags,
  to: Awaited<ReturnType<typeof openStore>>,
): Promise<Source> {
  const { closure } = flags;
  const { referenceGraph } = flags;
  const nixStore = flags.from ?? (referenceGraph === undefined ? undefined : STORE_DIR);
  if (nixStore?.startsWith('/')) {
    const storeDir = nixStore.replace(/\/+$/, '');
    if (!storeDir.endsWith(STORE_DIR))
      throw new UsageError(
        `--from ${nixStore}: want a URL, or the directory of a Nix store, which ends in ${STORE_DIR}`,
      );
    return {
      async plan(signal) {
        const told =
          referenceGraph === undefined
            ? await askNix(storeDir, names.map(absolute), { closure, signal })
            : parseNixJson(await readJson(referenceGraph));
        return planImport(to, told, { closure, signal });
      },
      copy: (plan, progress) => copyFromFiles(storeDir, to, plan, progress),
      close: async () => {},
    };
  }
  if (referenceGraph !== undefined)
    throw new UsageError(
      `--reference-graph copies from files: --from takes the directory of a Nix store then`,
    );
  const from = await openStore(flags.from === undefined ? addressesOf(flags) : at(flags.from, flags), 'read');
  return {
    plan: async (signal) => planCopy(from, to, await findStorePaths(from, names), { closure, signal }),
    copy: (plan, progress) => copyPaths(from, to, plan, progress),
    close: () => from.close(),
  };
}

/** As Nix takes it: it knows no bare hashes. */
function absolute(name: string): string {
  return name.startsWith('/') ? name : `${STORE_DIR}/${name}`;
}

async function readJson(file: string): Promise<string> {
  const text = await collect(file === '-' ? process.stdin : createReadStream(file), MAX_JSON_LENGTH);
  if (!text) throw invalid(`${file} is longer than ${formatSize(MAX_JSON_LENGTH)}`);
  return asBuffer(text).toString();
}

function tell(plan: CopyPlan, { dryRun, json }: Flags, bytes: number): void {
  const narSize = plan.paths.reduce((sum, path) => sum + path.narSize, 0n);
  if (json) {
    const paths = plan.paths.map((path) => ({
      path: path.storePath.absolute(),
      narSize: Number(path.narSize),
    }));
    const summary = { paths, narSize: Number(narSize), present: plan.present.length };
    process.stdout.write(`${JSON.stringify(dryRun ? summary : { ...summary, copiedBytes: bytes })}\n`);
    return;
  }
  if (dryRun) {
    for (const { storePath, narSize: size } of plan.paths)
      process.stdout.write(`${storePath.absolute()} ${size}\n`);
  }
  log.info(dryRun ? 'would be copied' : 'copied', {
    paths: plan.paths.length,
    nars: formatSize(Number(narSize)),
    present: plan.present.length,
    bytes: dryRun ? undefined : formatSize(bytes),
  });
}
