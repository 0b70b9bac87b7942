import { join } from 'node:path';
import { decodeBase32 } from '#built/nix/base32.js';
import type { Order } from './daemon.ts';
import { withDelay } from './delay.ts';
import type { Experiment } from './experiment.ts';
import { secondsOf } from './experiment.ts';
import { megabytes, passesOver } from './experiments.ts';
import { client, importPath, run, tvixStore } from './processes.ts';
import { withRate } from './rate.ts';
import type { FarTree, Workspace } from './workspace.ts';
import { READER_SIZE, READERS } from './workspace.ts';

const ROUND_TRIP_MS = 20;
/** What the slow line carries, in bytes a second. */
const RATE = 10e6;
/** Round trips that the listing of a tree may take. */
const ROUND_TRIPS = 10;
const CALLS = 10_000;
/** Characters of a store path's name that are its hash. */
const HASH_LENGTH = 32;

/**
 * Columns of a store that is far: our client and daemon over TCP, a unix socket, TCP with a delay, and TCP that carries
 * so much; grpc-js alone with our daemon; and the same work with a local store.
 */
export const REMOTE_COLUMNS = ['local', 'bare TCP', 'bare unix', 'TCP', 'unix', '20 ms', '10 MB/s'];

/** A store that is far, beside what else the same daemons do. */
export const remoteExperiments: readonly Experiment[] = [
  {
    name: 'far-small',
    columns: ['native', 'bare TCP', 'bare unix', 'TCP', 'unix', 'S3'],
    lines: {
      cold: {
        title: 'cold read of a small file (Rust: 41 TCP, 1 unix)',
        unit: 'ms',
        goal: { plus: 0.3, of: 'bare' },
      },
      again: { title: 'the same again', unit: 'us', goal: { atMost: 1.5, of: 'native' } },
    },
    async measure(column, workspace) {
      const { root: native, lists } = await workspace.farTree('small');
      const { small } = lists;
      const again = async (root: string) => {
        const passes = passesOver(small);
        const seconds = await client('read-once', { rehearsal: root, root, list: small.file, passes });
        return (seconds * 1e6) / small.length;
      };
      if (column === 'native') return { again: await again(native) };
      const { name } = await workspace.farStore('small');
      if (column.startsWith('bare ')) {
        const daemon = await workspace.daemon(column.slice('bare '.length));
        const { seconds } = await daemon.client('read', { root: native, list: small.file });
        return { cold: (seconds * 1e3) / small.length };
      }
      const store = await workspace.farAddress(column, 'small');
      return withMount(store, workspace, async (mount) => {
        const root = join(mount, name);
        const seconds = await client('read-once', { rehearsal: native, root, list: small.file, passes: 1 });
        return { cold: (seconds * 1e3) / small.length, again: await again(root) };
      });
    },
  },
  {
    name: 'far-sequential',
    columns: ['bare TCP', 'bare unix', 'TCP', 'unix', 'S3'],
    mostRounds: 3,
    lines: {
      speed: {
        title: 'cold read of 1 GiB (Rust: 16-24 TCP, 330 unix)',
        unit: 'MB/s',
        goal: { atLeast: 500 },
      },
    },
    async measure(column, workspace) {
      const { root: native, list } = await workspace.large();
      const { name } = await workspace.farStore('large');
      await workspace.settle();
      if (column.startsWith('bare ')) {
        const daemon = await workspace.daemon(column.slice('bare '.length));
        const { seconds } = await daemon.client('streams', { root: native, list: list.file, streams: 1 });
        return { speed: megabytes(seconds) };
      }
      const store = await workspace.farAddress(column, 'large');
      return withMount(store, workspace, async (mount) => {
        const root = join(mount, name);
        return {
          speed: megabytes(await client('read', { rehearsal: native, root, list: list.file, passes: 1 })),
        };
      });
    },
  },
  {
    name: 'far-ls',
    columns: ['local', 'TCP', 'unix', 'S3'],
    lines: {
      time: { title: 'cold ls -lR of 15 000 entries (Rust: 2.2)', unit: 's', goal: { atMost: 0.7 } },
    },
    async measure(column, workspace) {
      const { store } = await workspace.farStore('wide');
      const from = column === 'local' ? store : await workspace.farAddress(column, 'wide');
      return { time: await coldListing('wide', from, workspace) };
    },
  },
  {
    name: 'far-delayed',
    columns: ['local', '20 ms'],
    lines: {
      time: {
        title: 'cold ls -lR of 1 000 directories',
        unit: 's',
        goal: { plus: (ROUND_TRIPS * ROUND_TRIP_MS) / 1e3, of: 'local' },
      },
    },
    async measure(column, workspace) {
      const { store } = await workspace.farStore('upload');
      const list = (from: string) => coldListing('upload', from, workspace);
      if (column === 'local') return { time: await list(store) };
      const { port } = await workspace.daemon('TCP');
      const time = await withDelay(port, ROUND_TRIP_MS, (delayed) =>
        list(`grpc+http://127.0.0.1:${delayed}`),
      );
      return { time };
    },
  },
  {
    name: 'far-first',
    columns: ['20 ms'],
    lines: {
      alone: { title: 'cold read of 400 small files', unit: 's', goal: { atMost: 0.6 } },
      profile: { title: 'the same with the profile of another machine', unit: 's', goal: { atMost: 0.5 } },
    },
    async measure(_column, workspace) {
      const { root: native, lists } = await workspace.farTree('small');
      const { name } = await workspace.farStore('small');
      const { port } = await workspace.daemon('TCP');
      const list = lists.small.file;
      const read = (point: string) =>
        client('read-once', { rehearsal: native, root: join(point, name), list, passes: 1 });
      return withDelay(port, ROUND_TRIP_MS, async (delayed) => {
        const store = ['--store', `grpc+http://127.0.0.1:${delayed}`];
        const [first, second] = [workspace.freshFolder(), workspace.freshFolder()];
        const mounted = (cache: string, ...flags: string[]) =>
          withMount(store[1]!, workspace, read, ['--cache', cache, ...flags]);
        const alone = await mounted(first);
        const profiles = join(workspace.freshFolder(), 'profiles');
        await tvixStore(['profile', 'export', ...store, '--cache', first, '--to', profiles, name]);
        await tvixStore(['profile', 'import', ...store, '--cache', second, '--from', profiles]);
        return { alone, profile: await mounted(second, '--prefetch') };
      });
    },
  },
  {
    name: 'far-cp',
    columns: ['local', 'TCP', 'unix'],
    lines: {
      time: { title: 'cold cp -r of 11 500 files', unit: 's', goal: { atMost: 3, of: 'local' } },
    },
    async measure(column, workspace) {
      const { store, name } = await workspace.farStore('upload');
      const from = column === 'local' ? store : (await workspace.daemon(column)).store;
      const copy = join(workspace.freshFolder(), 'copy');
      return withMount(from, workspace, async (mount) => ({
        time: await secondsOf(() => run('cp', ['-r', join(mount, name), copy])),
      }));
    },
  },
  {
    name: 'far-readers',
    columns: ['10 MB/s'],
    mostRounds: 3,
    lines: {
      speed: {
        title: `cold reads of ${READERS} files at once`,
        unit: 'MB/s',
        // Of what the line carries.
        goal: { atLeast: 9 },
      },
    },
    async measure(_column, workspace) {
      const { list } = await workspace.readersTree();
      const { name } = await workspace.farStore('readers');
      const { port } = await workspace.daemon('TCP');
      return withRate(port, RATE, (from) =>
        withMount(`grpc+http://127.0.0.1:${from}`, workspace, async (mount) => {
          const all = `cd "$0" && xargs -0 -n 1 -P ${READERS} cat <"$1" >/dev/null`;
          const seconds = await secondsOf(() => run('sh', ['-c', all, join(mount, name), list.file]));
          return { speed: (READERS * READER_SIZE) / 1e6 / seconds };
        }),
      );
    },
  },
  {
    name: 'far-import',
    columns: ['local', 'TCP', 'unix'],
    mostRounds: 3,
    lines: {
      first: {
        title: 'import of 11 500 files (Rust: 4.2)',
        unit: 's',
        goal: { atMost: 2, of: 'local' },
      },
      again: { title: 'import of them again', unit: 's', goal: { plus: 0.3, of: 'local' } },
    },
    async measure(column, workspace) {
      const { root } = await workspace.farTree('upload');
      const folder = workspace.freshFolder();
      await workspace.settle();
      const measured = async (store: string) => ({
        first: await secondsOf(() => importPath(store, root)),
        again: await secondsOf(() => importPath(store, root)),
      });
      if (column === 'local') return measured(folder);
      const daemon = await workspace.freshDaemon(column, folder);
      try {
        return await measured(daemon.store);
      } finally {
        await daemon.stop();
      }
    },
  },
  {
    name: 'far-import-delayed',
    columns: ['TCP', '20 ms'],
    mostRounds: 3,
    lines: {
      time: { title: 'import of 11 500 files', unit: 's', goal: { plus: 0.5, of: 'TCP' } },
    },
    async measure(column, workspace) {
      const { root } = await workspace.farTree('upload');
      const daemon = await workspace.freshDaemon('TCP', workspace.freshFolder());
      await workspace.settle();
      // Through the same proxy, which takes processor time of its own.
      const roundTrip = column === 'TCP' ? 0 : ROUND_TRIP_MS;
      const measured = (port: number) => importPath(`grpc+http://127.0.0.1:${port}`, root);
      try {
        return { time: await secondsOf(() => withDelay(daemon.port, roundTrip, measured)) };
      } finally {
        await daemon.stop();
      }
    },
  },
  ofDaemon('daemon-stat', 'stat', 'Stat, 50 in flight', 'calls/s', callsOfBlobs),
  ofDaemon('daemon-path-info', 'path-info', 'PathInfo.Get, 50 in flight', 'calls/s', callsOfPathInfos),
  ofDaemon('daemon-stream', 'streams', 'large read, one stream', 'MB/s', (workspace) =>
    streams(1, workspace),
  ),
  ofDaemon('daemon-streams', 'streams', 'large reads, four streams', 'MB/s', (workspace) =>
    streams(4, workspace),
  ),
];

/**
 * A row of what the daemon does for grpc-js alone, and how much of a processor either used. `prepare` gives
 * the options of the client, and how much it is that the client's seconds are for.
 */
function ofDaemon(
  name: string,
  operation: string,
  title: string,
  unit: string,
  prepare: (workspace: Workspace) => Promise<{ amount: number; options: Order }>,
): Experiment {
  return {
    name,
    columns: ['bare TCP', 'bare unix'],
    mostRounds: 3,
    lines: {
      speed: { title: `daemon: ${title}`, unit },
      server: { title: '  its processors meanwhile', unit: '%' },
      client: { title: "  the client's", unit: '%' },
    },
    async measure(column, workspace) {
      const { amount, options } = await prepare(workspace);
      const daemon = await workspace.daemon(column.slice('bare '.length));
      const { seconds, server, client } = await daemon.client(operation, options);
      return { speed: amount / seconds, server: server * 100, client: client * 100 };
    },
  };
}

async function callsOfBlobs(workspace: Workspace) {
  const { root, lists } = await workspace.farTree('small');
  return { amount: CALLS, options: { calls: CALLS, root, list: lists.small.file } };
}

async function callsOfPathInfos(workspace: Workspace) {
  const { name } = await workspace.farStore('small');
  const hash = Buffer.from(decodeBase32(name.slice(0, HASH_LENGTH))).toString('hex');
  return { amount: CALLS, options: { calls: CALLS, hash } };
}

async function streams(count: number, workspace: Workspace) {
  const { root, list } = await workspace.large();
  await workspace.farStore('large');
  return { amount: megabytes(1) * count, options: { streams: count, root, list: list.file } };
}

/** Seconds of `ls -lR` of a tree in a fresh mount. */
async function coldListing(tree: FarTree, store: string, workspace: Workspace): Promise<number> {
  const { root: native, lists } = await workspace.farTree(tree);
  const { name } = await workspace.farStore(tree);
  const list = lists.entries.file;
  return withMount(store, workspace, (mount) =>
    client('ls', { rehearsal: native, root: join(mount, name), list, passes: 1 }),
  );
}

/** Runs `use` with the folder of a fresh mount, whose cache is empty unless flags name one. */
async function withMount<T>(
  store: string,
  workspace: Workspace,
  use: (point: string) => Promise<T>,
  flags: readonly string[] = [],
): Promise<T> {
  const mount = await workspace.mount('tvix-store', store, flags);
  try {
    return await use(mount.point);
  } finally {
    await mount.stop();
  }
}
