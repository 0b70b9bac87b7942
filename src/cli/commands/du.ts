import type { DiskUse, PathUse } from '../../store/keeping/disk-use/disk-use.ts';
import { useOf, useOfAll } from '../../store/keeping/disk-use/disk-use.ts';
import { STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import { describePath } from '../../store/resolve.ts';
import { formatSize } from '../../util/bytes.ts';
import { allOption, choosePaths } from '../chosen-paths.ts';
import { Command } from '../command.ts';
import { countingPaths } from '../progress.ts';
import type { ReadFlags } from '../store-options.ts';
import { addressesOf, withReadOptions } from '../store-options.ts';

interface DuFlags extends ReadFlags {
  readonly all?: boolean;
  readonly json?: boolean;
}

export function duCommand(): Command {
  return withReadOptions(new Command('du'))
    .summary('show what store paths take')
    .description(
      'Shows what store paths, and all that they refer to, take: CONTENTS is what is kept of them, with what is the same ' +
        'counted once, OWN is what of it no other store path needs, so that it would go with this one, and NAR is its size ' +
        'for Nix. No contents are read or fetched. OWN is known of a local store, and of all of any store. Of a binary cache, ' +
        'only the NARs are known.',
    )
    .argument('[STORE_PATH...]', STORE_PATH_FORMS)
    .addOption(allOption())
    .option('--json', 'print one JSON object, with sizes in bytes')
    .example(
      'tvix-store du 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir',
      'tvix-store du --all --store grpc+http://store.example:8000',
    )
    .action(run);
}

async function run(names: string[], flags: DuFlags): Promise<void> {
  const chosen = choosePaths(names, flags.all ?? false);
  const store = await openStore(addressesOf(flags), 'read');
  try {
    const use = await countingPaths(async (onProgress) => {
      if (chosen === 'all') return useOfAll(store, onProgress);
      const roots = await Promise.all(chosen.map((path) => describePath(store, path)));
      return useOf(store, roots, onProgress);
    });
    process.stdout.write(`${flags.json ? JSON.stringify(use) : describe(use)}\n`);
  } finally {
    await store.close();
  }
}

/** Wide enough for any size. */
const COLUMN = 11;

function describe({ paths, narSize, contents }: DiskUse): string {
  const lines = [row(['CONTENTS', 'OWN', 'NAR'], 'STORE PATH'), ...paths.flatMap(describePathUse)];
  if (paths.length > 1) lines.push(row([size(contents), '', size(narSize)], 'together'));
  return lines.join('\n');
}

function describePathUse({ path, narSize, contents, own, closure, isWhole }: PathUse): string[] {
  const note = isWhole ? '' : ', not all of which is here';
  const lines = [row([size(contents), size(own), size(narSize)], path + note)];
  if (closure && closure.paths + closure.missing > 1) {
    const missing = closure.missing > 0 ? `, and ${closure.missing} that are not here` : '';
    const what = `  with what it refers to: ${closure.paths} store paths${missing}`;
    lines.push(row([size(closure.contents), '', size(closure.narSize)], what));
  }
  return lines;
}

function row(cells: readonly string[], what: string): string {
  return `${cells.map((cell) => cell.padStart(COLUMN)).join('')}  ${what}`;
}

function size(bytes: number | undefined): string {
  return bytes === undefined ? '-' : formatSize(bytes);
}
