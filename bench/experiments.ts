import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Experiment, Line } from './experiment.ts';
import { secondsOf } from './experiment.ts';
import { client, importPath, run } from './processes.ts';
import type { List, Workspace } from './workspace.ts';
import { LARGE_SIZE, MANY } from './workspace.ts';

/** So many paths a warm client visits at least, in several passes. */
const WARM_PATHS = 60_000;

/** The mount and the import, beside the native file system and the other driver. */
export const experiments: readonly Experiment[] = [
  warm('warm-stat', 'stat', 'entries', {
    title: 'warm stat of an entry',
    unit: 'us',
    goal: { atMost: 1.15, of: 'native' },
  }),
  warm('warm-ls', 'ls', 'entries', {
    title: 'warm ls -lR, an entry',
    unit: 'us',
    goal: { atMost: 1.15, of: 'native' },
  }),
  warm('warm-read', 'read', 'files', {
    title: 'warm read of the tree, a file',
    unit: 'us',
    goal: { atMost: 1.15, of: 'native' },
  }),
  warm('warm-small', 'read-once', 'small', {
    title: 'warm open+read+close, small file',
    unit: 'us',
    goal: { atMost: 1.5, of: 'native' },
  }),
  {
    name: 'cold-ls',
    columns: ['native', 'tvix-store', 'fuse-native'],
    lines: {
      time: { title: 'cold ls -lR, an entry', unit: 'us', goal: { atMost: 2.5, of: 'native' } },
      requests: { title: 'cold ls -lR, requests a directory', unit: '', goal: { atMost: 2.1 } },
    },
    async measure(column, workspace) {
      const { lists, directories } = await workspace.tree();
      const { seconds, requests } = await coldPass('ls', lists.entries, column, workspace);
      return {
        time: (seconds * 1e6) / lists.entries.length,
        requests: requests === undefined ? undefined : requests / directories,
      };
    },
  },
  {
    name: 'flat-ls',
    columns: ['native', 'tvix-store', 'fuse-native'],
    mostRounds: 3,
    lines: {
      names: { title: 'cold ls -f of 100 000 entries', unit: 's', goal: { atMost: 2.5, of: 'native' } },
      entries: { title: 'ls -l of them', unit: 's', goal: { atMost: 2.5, of: 'native' } },
    },
    async measure(column, workspace) {
      const { native, store, name } = await workspace.flatStore();
      // There is no list of what is in it: `ls` finds it.
      const list = '/dev/null';
      const listed = async (root: string) => ({
        names: await client('ls-names', { rehearsal: native, root, list, passes: 1 }),
        entries: await client('ls-entries', { rehearsal: native, root, list, passes: 1 }),
      });
      if (column === 'native') return listed(native);
      const mount = await workspace.mount(column, store);
      try {
        return await listed(join(mount.point, name));
      } finally {
        await mount.stop();
      }
    },
  },
  {
    name: 'cold-small',
    columns: ['native', 'tvix-store', 'fuse-native'],
    lines: {
      one: {
        title: 'cold open+read+close, small file',
        unit: 'us',
        goal: { atMost: 1 / 2, of: 'fuse-native' },
      },
      two: { title: 'the same, --readers 2', unit: 'us', goal: { atMost: 1 / 3, of: 'fuse-native' } },
    },
    async measure(column, workspace) {
      const { small } = (await workspace.tree()).lists;
      const each = async (flags: readonly string[]) =>
        ((await coldPass('read-once', small, column, workspace, flags)).seconds * 1e6) / small.length;
      const one = await each([]);
      // The others have no readers to choose from.
      return { one, two: column === 'tvix-store' ? await each(['--readers', '2']) : one };
    },
  },
  {
    name: 'sequential',
    columns: ['native', 'tvix-store', 'fuse-native'],
    mostRounds: 3,
    lines: {
      cold: { title: 'cold read of 1 GiB', unit: 'MB/s', goal: { atLeast: 2000 } },
      warm: { title: 'warm read of 1 GiB', unit: 'MB/s', goal: { atLeast: 1 / 1.15, of: 'native' } },
    },
    async measure(column, workspace) {
      const { root: native, list } = await workspace.large();
      const speed = async (rehearsal: string, root: string) =>
        megabytes(await client('read', { rehearsal, root, list: list.file, passes: 1 }));
      if (column === 'native') {
        const warm = await speed(native, native);
        return { cold: warm, warm };
      }
      const { store, name } = await workspace.largeStore();
      const mount = await workspace.mount(column, store);
      try {
        const root = join(mount.point, name);
        return { cold: await speed(native, root), warm: await speed(root, root) };
      } finally {
        await mount.stop();
      }
    },
  },
  {
    name: 'import-tree',
    columns: ['native', 'tvix-store'],
    mostRounds: 3,
    lines: {
      first: { title: 'import of the tree (native: cp, sync)', unit: 's', goal: { atMost: 2 } },
      second: { title: 'import of it again', unit: 's' },
    },
    async measure(column, workspace) {
      const { root } = await workspace.tree();
      const folder = workspace.freshFolder();
      await workspace.settle();
      if (column === 'native') {
        const copy = 'cp -r "$0" "$1" && sync -f "$1"';
        return { first: await secondsOf(() => run('sh', ['-c', copy, root, folder])) };
      }
      return {
        first: await secondsOf(() => importPath(folder, root)),
        second: await secondsOf(() => importPath(folder, root)),
      };
    },
  },
  {
    name: 'import-large',
    columns: ['native', 'tvix-store'],
    mostRounds: 3,
    lines: {
      speed: {
        title: 'import of 1 GiB (native: dd conv=fsync)',
        unit: 'MB/s',
        goal: { atLeast: 0.7, of: 'native' },
      },
    },
    async measure(column, workspace) {
      await workspace.large();
      await workspace.settle();
      return { speed: await speedOfStoring(column, workspace, workspace.freshFolder()) };
    },
  },
  {
    name: 'import-tmpfs',
    columns: ['native', 'tvix-store'],
    mostRounds: 3,
    lines: { speed: { title: 'the same on tmpfs', unit: 'MB/s', goal: { atLeast: 500 } } },
    async measure(column, workspace) {
      await workspace.large();
      await workspace.settle();
      return {
        speed: await workspace.withMemoryFolder((folder) => speedOfStoring(column, workspace, folder)),
      };
    },
  },
  {
    name: 'memory',
    columns: ['tvix-store', 'fuse-native'],
    mostRounds: 1,
    lines: {
      first: { title: 'memory after ls -lR of 100 000 entries', unit: 'MB', goal: { atMost: 120 } },
      next: { title: 'more for the next 100 000, an entry', unit: 'B', goal: { atMost: 200 } },
    },
    async measure(column, workspace) {
      const { store, names } = await workspace.manyStore();
      const mount = await workspace.mount(column, store);
      try {
        const used: number[] = [];
        for (const name of names) {
          await run('sh', ['-c', 'ls -lR "$0" >/dev/null', join(mount.point, name)]);
          used.push(ownMemory(mount.pid));
        }
        const [first, second] = used as [number, number];
        return { first: first / 1e6, next: (second - first) / MANY };
      } finally {
        await mount.stop();
      }
    },
  },
];

/** A row of a tree that stays mounted; the time is for each path of the list. */
function warm(
  name: string,
  operation: string,
  listName: 'entries' | 'files' | 'small',
  line: Line,
): Experiment {
  return {
    name,
    columns: ['native', 'tvix-store', 'fuse-native', 'against'],
    lines: { time: line },
    async measure(column, workspace) {
      const list = (await workspace.tree()).lists[listName];
      const root = await workspace.warmRoot(column);
      const passes = passesOver(list);
      const seconds = await client(operation, { rehearsal: root, root, list: list.file, passes });
      return { time: (seconds * 1e6) / list.length };
    },
  };
}

/** So many passes of a warm client that they even out what else the machine does. */
export function passesOver(list: List): number {
  return Math.ceil(WARM_PATHS / list.length);
}

/**
 * One pass over the tree in a fresh mount, and the requests that this took. The native tree is always in
 * the page cache, as the content of our store is.
 */
async function coldPass(
  operation: string,
  list: List,
  column: string,
  workspace: Workspace,
  flags?: readonly string[],
): Promise<{ seconds: number; requests?: number | undefined }> {
  const { root: native } = await workspace.tree();
  const pass = (root: string) => client(operation, { rehearsal: native, root, list: list.file, passes: 1 });
  if (column === 'native') return { seconds: await pass(native) };
  const { store, name } = await workspace.treeStore();
  const mount = await workspace.mount(column, store, flags);
  let seconds: number;
  try {
    seconds = await pass(join(mount.point, name));
  } finally {
    // The log line with the number of requests comes at the end.
    await mount.stop();
  }
  return { seconds, requests: mount.requests };
}

async function speedOfStoring(column: string, workspace: Workspace, folder: string): Promise<number> {
  const { root, file } = await workspace.large();
  const copy = ['bs=1M', 'conv=fsync', 'status=none', `if=${file}`, `of=${join(folder, 'copy')}`];
  const store = column === 'native' ? () => run('dd', copy) : () => importPath(folder, root);
  return megabytes(await secondsOf(store));
}

/** MB/s of moving the large file. */
export function megabytes(seconds: number): number {
  return LARGE_SIZE / 1e6 / seconds;
}

/** Bytes that the process has for itself; pages of the store's files are the page cache's. */
function ownMemory(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kilobytes = (field: string) => Number(new RegExp(`^${field}:\\s*(\\d+)`, 'm').exec(status)![1]);
  return (kilobytes('RssAnon') + kilobytes('RssShmem')) * 1024;
}
