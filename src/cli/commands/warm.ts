import { warmByProfile } from '../../mount/warm-profile.ts';
import type { StorePath } from '../../nix/store-path.ts';
import { closureOf } from '../../store/moving/closure.ts';
import type { WarmOptions } from '../../store/moving/warm.ts';
import { warm } from '../../store/moving/warm.ts';
import type { NamedPath } from '../../store/named-path.ts';
import { parseStorePath, STORE_PATH_FORMS } from '../../store/named-path.ts';
import type { PathDescription } from '../../store/path-info/path-info.ts';
import { describePath } from '../../store/resolve.ts';
import type { OpenedStore } from '../../store/services.ts';
import { Rate } from '../../util/async/rate.ts';
import { isAway } from '../../util/async/transient.ts';
import { formatSize } from '../../util/bytes.ts';
import { messageOf, StoreError, UsageError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { rateArgument } from '../arguments.ts';
import { Command } from '../command.ts';
import { withFarStore } from '../far-store.ts';
import { interruptible } from '../interruptible.ts';
import { ProgressLine } from '../progress.ts';
import type { ReadFlags } from '../store-options.ts';
import { storeName, withReadOptions } from '../store-options.ts';

interface WarmFlags extends ReadFlags {
  readonly closure?: boolean;
  readonly profile?: boolean;
  readonly rate?: number;
  readonly json?: boolean;
}

export function warmCommand(): Command {
  return withReadOptions(new Command('warm'))
    .summary('fetch store paths into the cache before they are needed')
    .description(
      'Fetches everything in store paths into the cache of this machine (--cache), from a store that is elsewhere: a mount ' +
        'with that cache then reads them without asking anybody, also one that is mounted already. Prints each path ' +
        'as soon as all of it is there. What the cache has is not fetched again, even when an earlier run was ' +
        'interrupted. Names the paths that cannot be had, and ends with exit code 1 if there are any.',
    )
    .argument('<STORE_PATH...>', `what to fetch: ${STORE_PATH_FORMS}`)
    .option('--closure', 'also fetch everything they refer to')
    .option(
      '--profile',
      'fetch only what was needed of them before, by their profiles; of those without one, nothing',
    )
    .option('--rate <size>', 'fetch no more than so much in a second: 500K, 10M', rateArgument)
    .option('--json', 'print one JSON object at the end')
    .example(
      'tvix-store warm --store grpc+http://store.example:8000 --closure 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir',
    )
    .action(run);
}

async function run(names: string[], flags: WarmFlags): Promise<void> {
  const paths = names.map(parseStorePath);
  await interruptible((signal) => warmAll(paths, flags, signal));
}

/** What has become of the store paths that were to be had. */
class Outcome {
  readonly whole: PathDescription[] = [];
  readonly failed: { readonly path: string; readonly problem: string }[] = [];

  fail(path: string, error: unknown): void {
    const problem = messageOf(error);
    this.failed.push({ path, problem });
    log.error('not all of it is in the cache', { path, problem });
  }
}

async function warmAll(names: readonly NamedPath[], flags: WarmFlags, signal: AbortSignal): Promise<void> {
  const outcome = new Outcome();
  const progress = { objects: 0, bytes: 0 };
  let total = 0;
  const line = new ProgressLine(
    () =>
      `${outcome.whole.length} of ${total} store paths, ${progress.objects} objects, ${formatSize(progress.bytes)}`,
  );
  await withFarStore(flags, async (store, cache) => {
    if (flags.profile && store.paths)
      throw new UsageError('--profile has no effect: a binary cache gives store paths as a whole');
    const paths = await find(store, names, flags, outcome, signal);
    total = paths.length;
    const left = new Set(paths);
    const bring = (options: WarmOptions) =>
      flags.profile
        ? warmByProfile(store, storeName(flags), cache, paths, options)
        : warm(store, cache, paths, options);
    try {
      await bring({
        rate: flags.rate === undefined ? undefined : new Rate(flags.rate),
        progress,
        onProgress: () => line.update(),
        onWarm(path) {
          left.delete(path);
          outcome.whole.push(path);
          line.clear();
          if (!flags.json) process.stdout.write(`${path.storePath.absolute()}\n`);
        },
        onFailed(path, error) {
          left.delete(path);
          line.clear();
          outcome.fail(path.storePath.absolute(), error);
        },
        signal,
      });
    } catch (error) {
      if (signal.aborted || !(error instanceof StoreError)) throw error;
      line.clear();
      for (const { storePath } of left) outcome.fail(storePath.absolute(), error);
    } finally {
      line.clear();
    }
  });
  tell(outcome, progress.bytes, flags);
}

/** What is to be fetched. What is not there is noted as failed. */
async function find(
  store: OpenedStore,
  names: readonly NamedPath[],
  { closure = false }: WarmFlags,
  outcome: Outcome,
  signal: AbortSignal,
): Promise<readonly PathDescription[]> {
  const roots = new Map<string, PathDescription>();
  for (const name of names) {
    try {
      const root = await describePath(store, name);
      roots.set(String(root.storePath), root);
    } catch (error) {
      if (!(error instanceof StoreError) || isAway(error)) throw error;
      outcome.fail(name.shown, error);
    }
  }
  const get = async ({ hash }: StorePath, abort: AbortSignal) =>
    closure ? store.pathInfos.describe(hash, abort) : undefined;
  const { paths, missing } = await closureOf([...roots.values()], get, signal);
  if (closure)
    for (const path of missing)
      outcome.fail(path.absolute(), new StoreError('NOT_FOUND', 'it is not in the store, and referred to'));
  return paths;
}

function tell({ whole, failed }: Outcome, bytes: number, { json }: WarmFlags): void {
  if (json) {
    const paths = whole.map(({ storePath, narSize }) => ({
      path: storePath.absolute(),
      narSize: Number(narSize),
    }));
    process.stdout.write(`${JSON.stringify({ paths, failed, fetchedBytes: bytes })}\n`);
  } else
    log.info('warmed', { paths: whole.length, failed: failed.length || undefined, bytes: formatSize(bytes) });
  if (failed.length > 0) process.exitCode = 1;
}
