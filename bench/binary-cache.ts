import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Started } from '../test/helpers/cli.ts';
import type { Experiment } from './experiment.ts';
import { secondsOf } from './experiment.ts';
import { megabytes } from './experiments.ts';
import { launch, run, runClient, Service, tvixStore } from './processes.ts';
import type { Source, Stored, Workspace } from './workspace.ts';

const STATIC = join(import.meta.dirname, 'static-server.ts');
const HASH_LENGTH = 32;
const AT_ONCE = 50;

/** A column of the same NARs as files, behind a small server. */
export const STATIC_COLUMN = 'static';

export const cacheExperiments: readonly Experiment[] = [
  download('nar-tree', 'NAR of 16 000 files over HTTP (nix: --dump; Rust: 115)', 575, (workspace) => ({
    source: workspace.tree(),
    stored: workspace.treeStore(),
  })),
  download('nar-large', 'NAR of a file of 1 GiB over HTTP (nix: --dump)', 1500, (workspace) => ({
    source: workspace.large(),
    stored: workspace.largeStore(),
  })),
  {
    name: 'nar-import',
    columns: ['nix', 'tvix-store'],
    mostRounds: 3,
    lines: {
      tree: {
        title: 'NAR of 16 000 files into a store on tmpfs (nix: --restore)',
        unit: 's',
        goal: { atMost: 2 },
      },
      large: { title: 'NAR of 1 GiB into a store on tmpfs', unit: 'MB/s', goal: { atLeast: 500 } },
    },
    async measure(column, workspace) {
      const seconds = ({ root }: Source) =>
        workspace.withMemoryFolder(async (folder) => {
          await run('sh', ['-c', 'nix-store --dump "$0" > "$1/nar"', root, folder]);
          return secondsOf(() =>
            column === 'nix'
              ? run('sh', ['-c', 'nix-store --restore "$0/tree" < "$0/nar"', folder])
              : tvixStore([
                  'nar',
                  'import',
                  '--store',
                  `local://${folder}/store`,
                  '--name',
                  'n',
                  `${folder}/nar`,
                ]),
          );
        });
      return {
        tree: await seconds(await workspace.tree()),
        large: megabytes(await seconds(await workspace.large())),
      };
    },
  },
  {
    name: 'nix-copy',
    columns: [STATIC_COLUMN, 'tvix-store'],
    mostRounds: 3,
    lines: {
      time: { title: 'nix copy --from of 16 000 files', unit: 's', goal: { atMost: 1.2, of: STATIC_COLUMN } },
    },
    async measure(column, workspace) {
      const { store, name } = await workspace.treeStore();
      return withBridge(store, async (bridge) => {
        const cache = workspace.freshFolder();
        await nixCopy(`http://127.0.0.1:${bridge.port}`, `file://${cache}?compression=none`, name, workspace);
        const server = column === STATIC_COLUMN ? await serveFiles(cache) : bridge;
        const from = `http://127.0.0.1:${server.port}`;
        await workspace.settle();
        const time = await secondsOf(() => nixCopy(from, workspace.freshFolder(), name, workspace));
        if (server !== bridge) await server.stop();
        return { time };
      });
    },
  },
  {
    name: 'nix-push',
    columns: [STATIC_COLUMN, 'tvix-store'],
    mostRounds: 3,
    lines: {
      time: { title: 'nix copy --to of 16 000 files', unit: 's' },
    },
    async measure(column, workspace) {
      const { store, name } = await workspace.treeStore();
      const own = workspace.freshFolder();
      await withBridge(store, (bridge) => nixCopy(`http://127.0.0.1:${bridge.port}`, own, name, workspace));
      return withBridge(workspace.freshFolder(), async (bridge) => {
        const to =
          column === STATIC_COLUMN ? `file://${workspace.freshFolder()}` : `http://127.0.0.1:${bridge.port}`;
        await workspace.settle();
        return { time: await secondsOf(() => nixCopy(own, `${to}?compression=none`, name, workspace)) };
      });
    },
  },
  {
    name: 'nar-memory',
    columns: ['tvix-store'],
    mostRounds: 1,
    lines: {
      memory: { title: `memory of its own at ${AT_ONCE} downloads`, unit: 'MB', goal: { atMost: 200 } },
    },
    async measure(_column, workspace) {
      const { store, name } = await workspace.treeStore();
      return withBridge(store, async (bridge) => {
        let most = 0;
        const timer = setInterval(() => {
          most = Math.max(most, bridge.ownMemory());
        }, 50);
        await bridge.download(name, AT_ONCE);
        clearInterval(timer);
        return { memory: most / 1e6 };
      });
    },
  },
];

/** A row of a download, beside what Nix itself does with the same tree. */
function download(
  name: string,
  title: string,
  atLeast: number,
  prepare: (workspace: Workspace) => { source: Promise<Source>; stored: Promise<Stored> },
): Experiment {
  return {
    name,
    columns: ['nix', 'tvix-store'],
    lines: { speed: { title, unit: 'MB/s', goal: { atLeast } } },
    async measure(column, workspace) {
      const { source, stored } = prepare(workspace);
      const { root } = await source;
      const { store, name } = await stored;
      return withBridge(store, async (bridge) => {
        // What comes from the disk is not what is measured.
        const { bytes } = await bridge.download(name, 1);
        if (column === 'tvix-store') return { speed: bytes / 1e6 / (await bridge.download(name, 1)).seconds };
        const dump = () => run('sh', ['-c', 'nix-store --dump "$0" > /dev/null', root]);
        await dump();
        return { speed: bytes / 1e6 / (await secondsOf(dump)) };
      });
    },
  };
}

async function nixCopy(from: string, to: string, name: string, workspace: Workspace): Promise<void> {
  const flags = ['--extra-experimental-features', 'nix-command', '--no-check-sigs'];
  const command = ['nix', 'copy', ...flags, '--from', from, '--to', to, `/nix/store/${name}`];
  // Nix remembers narinfos by the address of the cache: in a home of its own it knows none.
  const home = `HOME=${workspace.freshFolder()}`;
  await run('env', [home, 'NIX_CONFIG=build-users-group =', ...command]);
}

async function withBridge<T>(store: string, use: (bridge: Bridge) => Promise<T>): Promise<T> {
  const bridge = await Bridge.start(store);
  try {
    return await use(bridge);
  } finally {
    await bridge.stop();
  }
}

/** A server of ours, or of files, on a port. */
class HttpServer extends Service {
  readonly port: number;

  constructor(child: Started) {
    super(child);
    this.port = Number(/listening at=(?:\S*:)?(\d+)/.exec(this.log)![1]);
  }
}

/** Our binary cache. */
class Bridge extends HttpServer {
  static start(store: string): Promise<Bridge> {
    const args = [
      'nar-bridge',
      '--allow-anonymous-upload',
      '-l',
      '127.0.0.1:0',
      '--store',
      `local://${store}`,
    ];
    return launch(args, 'info: listening', undefined, (child) => new Bridge(child));
  }

  /** Downloads the NAR of a path so many times at once; the seconds, and the bytes of all. */
  async download(name: string, count: number): Promise<{ seconds: number; bytes: number }> {
    const answer = await fetch(`http://127.0.0.1:${this.port}/${name.slice(0, HASH_LENGTH)}.narinfo`);
    const path = /^URL: (.*)$/m.exec(await answer.text())![1];
    return runClient('http-client.ts', String(this.port), `/${path}`, String(count));
  }

  /** Bytes that it shares with nobody. */
  ownMemory(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/RssAnon:\s+(\d+) kB/.exec(status)![1]) * 1024;
  }
}

/** Serves files as they are. */
function serveFiles(folder: string): Promise<HttpServer> {
  return launch([STATIC, folder], 'listening', process.execPath, (child) => new HttpServer(child));
}
