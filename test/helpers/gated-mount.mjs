/**
 * A program of its own that mounts a store, or serves it to a virtual machine, whose services the test holds
 * back, breaks or lets lie, over the IPC channel of `child_process.fork`. It uses what was built.
 * `gated-mount.ts` is the test's side.
 */
import { basename } from 'node:path';
import { MemoryBlobService } from '../../dist/castore/blob/memory.js';
import { MemoryDirectoryService } from '../../dist/castore/directory/memory.js';
import { Directory } from '../../dist/castore/directory.js';
import { mountStore } from '../../dist/mount/mount.js';
import { serveVirtiofs } from '../../dist/mount/virtiofs.js';
import { importStorePath } from '../../dist/store/moving/import.js';
import { MemoryPathInfoService } from '../../dist/store/path-info/memory.js';
import { toHex } from '../../dist/util/bytes.js';
import { StoreError } from '../../dist/util/errors.js';

/** What a service does with a call: `open`, `held`, `failing`, `silent` (for ever) or `lying`. */
const states = { blobs: 'open', directories: 'open', pathInfos: 'open' };
/** Calls that wait for their gate, by service. */
const waiting = { blobs: new Set(), directories: new Set(), pathInfos: new Set() };
/** How often each thing was asked for: `blobs read <digest>` and so on. */
const asked = new Map();

async function pass(service, call, signal) {
  const key = `${service} ${call}`;
  asked.set(key, (asked.get(key) ?? 0) + 1);
  while (states[service] === 'held' || states[service] === 'silent') {
    await new Promise((resolve, reject) => {
      const entry = { resolve };
      waiting[service].add(entry);
      // A silent one is the worst kind: it does not even notice that nobody waits any more.
      if (states[service] === 'silent') return;
      // Like a connection, a call that waits keeps the process.
      const connection = setInterval(() => {}, 60_000);
      entry.resolve = () => {
        clearInterval(connection);
        resolve();
      };
      signal?.addEventListener('abort', () => {
        clearInterval(connection);
        waiting[service].delete(entry);
        reject(signal.reason);
      });
    });
  }
  if (states[service] === 'failing') throw new StoreError('UNAVAILABLE', `the ${service} are out of order`);
  return states[service] === 'lying';
}

const memory = {
  blobs: new MemoryBlobService(),
  directories: new MemoryDirectoryService(),
  pathInfos: new MemoryPathInfoService(),
  close: async () => {},
};

const gated = {
  close: async () => {},
  blobs: {
    async chunks(digest, signal) {
      const lying = await pass('blobs', `chunks ${digest.hex}`, signal);
      const chunks = await memory.blobs.chunks(digest);
      if (!lying || !chunks?.length) return chunks;
      return chunks.map((chunk, i) => (i === 0 ? { ...chunk, size: chunk.size + 1 } : chunk));
    },
    async read(digest, options = {}) {
      const lying = await pass('blobs', `read ${digest.hex}`, options.signal);
      const contents = await memory.blobs.read(digest, options);
      return contents && lying ? corrupted(contents) : contents;
    },
  },
  directories: {
    async get(digest, signal) {
      const lying = await pass('directories', `get ${digest.hex}`, signal);
      return lying ? Directory.of([]) : memory.directories.get(digest);
    },
    async *getRecursive(digest, signal) {
      for await (const directory of memory.directories.getRecursive(digest)) {
        const lying = await pass('directories', `stream ${directory.digest.hex}`, signal);
        yield lying ? Directory.of([]) : directory;
      }
    },
  },
  pathInfos: {
    async get(hash, signal) {
      await pass('pathInfos', `get ${toHex(hash)}`, signal);
      return memory.pathInfos.get(hash);
    },
    async *list(signal) {
      await pass('pathInfos', 'list', signal);
      yield* memory.pathInfos.list();
    },
  },
};

async function* corrupted(contents) {
  for await (const part of contents) {
    const copy = Uint8Array.from(part);
    copy[copy.length - 1] ^= 1;
    yield copy;
  }
}

let mount;

const commands = {
  async start({ trees, socket, ...options }) {
    const names = [];
    for (const tree of trees) {
      const info = await importStorePath(memory, Buffer.from(tree), basename(tree));
      names.push(info.storePath.toString());
    }
    const all = {
      driver: 'kernel',
      listRoot: false,
      showXattr: false,
      allowOther: false,
      readers: 1,
      timeoutMs: 30_000,
      offline: false,
      verifyWhole: false,
      ...options,
      store: gated,
    };
    const listen = { kind: 'unix', path: socket };
    mount = socket ? await serveVirtiofs({ ...all, listen, ownership: {} }) : await mountStore(all);
    mount.closed.then(() => process.disconnect());
    process.once('SIGTERM', () => void mount.stop());
    return names;
  },
  gate({ service, state }) {
    for (const one of service === 'all' ? Object.keys(states) : [service]) {
      states[one] = state;
      for (const { resolve } of waiting[one]) resolve();
      waiting[one].clear();
    }
  },
  counts: () => ({
    asked: Object.fromEntries(asked),
    waiting: Object.fromEntries(Object.entries(waiting).map(([service, calls]) => [service, calls.size])),
  }),
  statistics() {
    const { requests, nodes, bytesRead } = mount.statistics();
    return { requests: Object.fromEntries(requests), nodes, bytesRead };
  },
  /** Collects garbage: what only garbage holds on to must not be needed. */
  collect() {
    globalThis.gc();
  },
};

process.on('message', async ({ id, command, ...rest }) => {
  try {
    process.send({ id, result: await commands[command](rest) });
  } catch (error) {
    process.send({ id, error: String(error?.stack ?? error) });
  }
});
