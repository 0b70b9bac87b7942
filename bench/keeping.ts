import type { Experiment } from './experiment.ts';
import { secondsOf } from './experiment.ts';
import { importPath, tvixStore } from './processes.ts';

/** Keeping house in a store, on tmpfs. Times are those of whole commands. */
export const keepingExperiments: readonly Experiment[] = [
  {
    name: 'gc',
    columns: ['tvix-store'],
    mostRounds: 3,
    lines: {
      kept: { title: 'gc of the tree that stays, objects', unit: '1000/s' },
      freed: { title: 'gc of the tree that goes, objects', unit: '1000/s' },
    },
    async measure(_, workspace) {
      const { root } = await workspace.tree();
      return workspace.withMemoryFolder(async (folder) => {
        const name = await importPath(folder, root);
        const at = ['--store', `local://${folder}`];
        await tvixStore(['root', 'add', ...at, 'bench', name]);
        const collect = async () => {
          let report: { directories: number; manifests: number; chunks: number } | undefined;
          const seconds = await secondsOf(async () => {
            report = JSON.parse(await tvixStore(['gc', '--older-than', '0', '--json', ...at]));
          });
          return { seconds, objects: report!.directories + report!.manifests + report!.chunks };
        };
        const kept = await collect();
        await tvixStore(['root', 'remove', ...at, 'bench']);
        const freed = await collect();
        return { kept: freed.objects / kept.seconds / 1e3, freed: freed.objects / freed.seconds / 1e3 };
      });
    },
  },
  {
    name: 'fsck',
    columns: ['tvix-store'],
    mostRounds: 3,
    lines: {
      rows: { title: 'fsck of the tree, rows', unit: '1000/s' },
      bytes: { title: 'fsck of 1 GiB', unit: 'GB/s' },
    },
    async measure(_, workspace) {
      const check = (root: string) =>
        workspace.withMemoryFolder(async (folder) => {
          await importPath(folder, root);
          let report: { objects: number; bytes: number } | undefined;
          const seconds = await secondsOf(async () => {
            report = JSON.parse(await tvixStore(['fsck', '--json', '--store', `local://${folder}`]));
          });
          return { rows: report!.objects / seconds / 1e3, bytes: report!.bytes / seconds / 1e9 };
        });
      const { rows } = await check((await workspace.tree()).root);
      const { bytes } = await check((await workspace.large()).root);
      return { rows, bytes };
    },
  },
];
