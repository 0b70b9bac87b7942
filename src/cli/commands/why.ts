import { Option } from 'commander';
import { describeHolder } from '../../store/keeping/holders.ts';
import type { Hold, Why } from '../../store/keeping/why.ts';
import { whyInBucket, whyLocal } from '../../store/keeping/why.ts';
import { parseStorePath, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { findPathInfo } from '../../store/resolve.ts';
import { durationArgument } from '../arguments.ts';
import { namesBucket, withBucket } from '../bucket.ts';
import { Command } from '../command.ts';
import { withLocalStore } from '../local-store.ts';
import { countingPaths } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

interface WhyFlags extends StoreFlags {
  readonly olderThan: number;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** Told without `--all`. */
const MOST = 10;

export function whyCommand(): Command {
  return withStoreOptions(new Command('why'))
    .summary('show what holds a store path')
    .description(
      'Shows why "tvix-store gc" would keep a store path of a local store or a bucket: the roots, running mounts, processes ' +
        'that write, and recent uses that hold it, or a store path that refers to it; of each the shortest way from there, ' +
        'the most lasting first. Or that nothing holds it.',
    )
    .argument('<STORE_PATH>', STORE_PATH_FORMS)
    .addOption(
      new Option('--older-than <duration>', 'as for gc: a use within this time holds a store path')
        .argParser(durationArgument())
        .default(3600, '1h'),
    )
    .option('--all', `name all that hold it, not only ${MOST}`)
    .option('--json', 'print one JSON object, which names all')
    .example('tvix-store why 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir')
    .action(run);
}

async function run(name: string, flags: WhyFlags): Promise<void> {
  const named = parseStorePath(name);
  const { olderThan } = flags;
  const [path, why] = await countingPaths((onProgress) =>
    namesBucket(flags)
      ? withBucket(flags, async (objects, store, signal) => {
          const { storePath } = await findPathInfo(store, named);
          return [
            storePath,
            await whyInBucket(objects, storePath, { olderThan, onProgress }, signal),
          ] as const;
        })
      : withLocalStore(flags, async (local, store) => {
          const { storePath } = await findPathInfo(store, named);
          return [storePath, await whyLocal(local, storePath, { olderThan, onProgress })] as const;
        }),
  );
  process.stdout.write(
    flags.json
      ? `${JSON.stringify(toJson(path.absolute(), why))}\n`
      : describe(path.absolute(), why, flags.all ? Number.POSITIVE_INFINITY : MOST),
  );
}

function describe(path: string, { holds, referrers }: Why, most: number): string {
  if (holds.length === 0) {
    const those = referrers.length === 0 ? '' : `, nor any of the ${referrers.length} that refer to it`;
    return `freed  ${path}\tnothing holds it${those}\n`;
  }
  const lines = holds.slice(0, most).flatMap(describeHold);
  if (holds.length > most) lines.push(`  and ${holds.length - most} more hold it: see --all`);
  return `${[`kept   ${path}`, ...lines].join('\n')}\n`;
}

function describeHold({ holder, chain: [first, ...rest] }: Hold): string[] {
  const until = expiry(holder);
  return [
    `  ${first!.absolute()}\theld by ${describeHolder(holder)}${until ? ` until ${until}` : ''}`,
    ...rest.map((path) => `    refers to ${path.absolute()}`),
  ];
}

function expiry(holder: Hold['holder']): string | undefined {
  if (holder.kind !== 'root' || holder.root.expires === undefined) return undefined;
  return new Date(holder.root.expires * 1000).toISOString();
}

function toJson(path: string, { holds, referrers }: Why) {
  return {
    path,
    kept: holds.length > 0,
    holds: holds.map(({ holder, chain }) => ({
      ...holderToJson(holder),
      chain: chain.map((one) => one.absolute()),
    })),
    referrers: referrers.map((one) => one.absolute()),
  };
}

function holderToJson(holder: Hold['holder']) {
  if (holder.kind === 'mount') return { kind: holder.kind, pid: Number(holder.pid) };
  if (holder.kind !== 'root') return holder;
  const expires = expiry(holder);
  return { kind: holder.kind, name: holder.root.name, ...(expires ? { expires } : {}) };
}
