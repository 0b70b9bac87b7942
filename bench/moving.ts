import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Experiment, Figures } from './experiment.ts';
import { secondsOf } from './experiment.ts';
import { importPath, run, tvixStore } from './processes.ts';
import { writeRandomFile, writeSourceTree } from './trees.ts';
import type { Workspace } from './workspace.ts';

/** 15 000 files. */
const TREE = { directories: 1_500, files: 13_000, links: 100, small: 2_000 };
const LARGE = 2 * 2 ** 30;

/** Copies between stores and out of them. All of it lies in memory, so that no disk decides. */
export const movingExperiments: readonly Experiment[] = [
  {
    name: 'copy-tree',
    columns: ['native', 'tvix-store'],
    lines: {
      time: { title: 'copy of 15 000 files from store to store (native: cp -r)', unit: 's' },
      again: { title: 'copy of them again', unit: 's' },
    },
    measure: (column, workspace) => copying(column, workspace, 'moved tree', writeTree),
  },
  {
    name: 'copy-large',
    columns: ['native', 'tvix-store'],
    mostRounds: 3,
    lines: { time: { title: 'copy of 2 GiB from store to store (native: cp -r)', unit: 's' } },
    async measure(column, workspace) {
      const { time } = await copying(column, workspace, 'moved file', writeLarge);
      return { time };
    },
  },
  {
    name: 'realise',
    columns: ['native', 'nix', 'tvix-store'],
    lines: {
      time: {
        title: 'realise of 15 000 files (native: cp -r; nix: nix-store --restore)',
        unit: 's',
        goal: { atMost: 1, of: 'native' },
      },
      nix: { title: 'the same', unit: 's', goal: { atMost: 3, of: 'nix' } },
      again: { title: 'realise of what is there', unit: 's' },
    },
    measure: (column, workspace) => realising(column, workspace, 'moved tree', writeTree),
  },
  {
    name: 'realise-large',
    columns: ['native', 'nix', 'tvix-store'],
    mostRounds: 3,
    lines: { time: { title: 'realise of 2 GiB', unit: 's' } },
    async measure(column, workspace) {
      const { time } = await realising(column, workspace, 'moved file', writeLarge);
      return { time };
    },
  },
];

type Write = (path: string) => void;

const writeTree: Write = (path) => writeSourceTree(path, TREE);

function writeLarge(path: string): void {
  mkdirSync(path);
  writeRandomFile(join(path, 'file'), LARGE);
}

/** A tree, its NAR and a store that has it, in memory. */
function source(workspace: Workspace, name: string, write: Write) {
  return workspace.inMemory(name, async (folder) => {
    const tree = join(folder, 'tree');
    write(tree);
    const store = join(folder, 'store');
    return { tree, store, folder, path: await importPath(store, tree) };
  });
}

async function copying(column: string, workspace: Workspace, name: string, write: Write): Promise<Figures> {
  const { tree, store, path } = await source(workspace, name, write);
  return workspace.withMemoryFolder(async (folder) => {
    if (column === 'native') return { time: await secondsOf(() => run('cp', ['-r', tree, folder])) };
    const copy = () =>
      tvixStore(['copy', '--from', `local://${store}`, '--to', `local://${folder}/store`, path]);
    return { time: await secondsOf(copy), again: await secondsOf(copy) };
  });
}

async function realising(column: string, workspace: Workspace, name: string, write: Write): Promise<Figures> {
  const { tree, store, folder: kept, path } = await source(workspace, name, write);
  const nar = join(kept, 'nar');
  if (column === 'nix') await run('sh', ['-c', 'test -e "$1" || nix-store --dump "$0" > "$1"', tree, nar]);
  return workspace.withMemoryFolder(async (folder) => {
    if (column === 'native') return { time: await secondsOf(() => run('cp', ['-r', tree, folder])) };
    if (column === 'nix') {
      const restore = ['-c', 'nix-store --restore "$0/tree" < "$1"', folder, nar];
      const time = await secondsOf(() => run('sh', restore));
      return { time, nix: time };
    }
    const realise = () => tvixStore(['realise', '--store', `local://${store}`, path, folder]);
    const time = await secondsOf(realise);
    const again = await secondsOf(realise);
    // Read-only directories can only be emptied by root.
    await run('chmod', ['-R', 'u+w', folder]);
    return { time, nix: time, again };
  });
}
