import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { secondsOf } from './experiments.mjs';
import { run, Service, tvixStore } from './processes.mjs';

const CLIENT = fileURLToPath(new URL('./http-client.mjs', import.meta.url));
const STATIC = fileURLToPath(new URL('./static-server.mjs', import.meta.url));
const HASH_LENGTH = 32;
const AT_ONCE = 50;

/** A column of the same NARs as files, behind a small server. */
export const STATIC_COLUMN = 'static';

/** As in experiments.mjs. */
export const cacheExperiments = [
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
      const sources = { tree: await workspace.tree(), large: await workspace.large() };
      const seconds = {};
      for (const [name, { root }] of Object.entries(sources)) {
        seconds[name] = await workspace.withMemoryFolder(async (folder) => {
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
      }
      return { tree: seconds.tree, large: 2 ** 30 / 1e6 / seconds.large };
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
      return withBridge(store, workspace, async (bridge) => {
        const cache = workspace.freshFolder();
        await nixCopy(`http://127.0.0.1:${bridge.port}`, `file://${cache}?compression=none`, name, workspace);
        const server = column === STATIC_COLUMN ? await FileServer.start(cache) : bridge;
        const from = `http://127.0.0.1:${server.port}`;
        await workspace.settle();
        const time = await secondsOf(() => nixCopy(from, workspace.freshFolder(), name, workspace));
        if (server !== bridge) await server.stop();
        return { time };
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
      return withBridge(store, workspace, async (bridge) => {
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
function download(name, title, atLeast, prepare) {
  return {
    name,
    columns: ['nix', 'tvix-store'],
    lines: { speed: { title, unit: 'MB/s', goal: { atLeast } } },
    async measure(column, workspace) {
      const { source, stored } = prepare(workspace);
      const { root } = await source;
      const { store, name } = await stored;
      return withBridge(store, workspace, async (bridge) => {
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

async function nixCopy(from, to, name, workspace) {
  const flags = ['--extra-experimental-features', 'nix-command', '--no-check-sigs'];
  const command = ['nix', 'copy', ...flags, '--from', from, '--to', to, `/nix/store/${name}`];
  // Nix remembers narinfos by the address of the cache: in a home of its own it knows none.
  const home = `HOME=${workspace.freshFolder()}`;
  await run('env', [home, 'NIX_CONFIG=build-users-group =', ...command]);
}

async function withBridge(store, workspace, use) {
  const bridge = await Bridge.start(store, workspace.freshFolder());
  try {
    return await use(bridge);
  } finally {
    await bridge.stop();
  }
}

/** Our binary cache. */
class Bridge extends Service {
  static async start(store, cache) {
    const bridge = new Bridge();
    const stores = ['--store', `local://${store}`, '--cache', cache];
    await bridge.launch(['nar-bridge', '-l', '127.0.0.1:0', ...stores], 'info: listening');
    bridge.port = Number(/info: listening at=\S*:(\d+)/.exec(bridge.log)[1]);
    return bridge;
  }

  /** Downloads the NAR of a path so many times at once; the seconds, and the bytes of all. */
  async download(name, count) {
    const answer = await fetch(`http://127.0.0.1:${this.port}/${name.slice(0, HASH_LENGTH)}.narinfo`);
    const [, path] = /^URL: (.*)$/m.exec(await answer.text());
    const client = [CLIENT, String(this.port), `/${path}`, String(count)];
    return JSON.parse(await run(process.execPath, client));
  }

  /** Bytes that it shares with nobody. */
  ownMemory() {
    return Number(/RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))[1]) * 1024;
  }
}

/** Serves files as they are. */
class FileServer extends Service {
  static async start(folder) {
    const server = new FileServer();
    await server.launch([STATIC, folder], 'listening', process.execPath);
    server.port = Number(/at=(\d+)/.exec(server.log)[1]);
    return server;
  }
}
