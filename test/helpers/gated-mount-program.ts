/**
 * A program of its own that mounts a store, or serves it to a virtual machine, whose services the test holds
 * back, breaks or lets lie, over the IPC channel of `child_process.fork`. It uses what was built.
 * `gated-mount.ts` is the test's side.
 */
import { basename } from 'node:path';
import { MemoryBlobService } from '#built/castore/blob/memory.js';
import type { BlobService } from '#built/castore/blob/service.js';
import { MemoryDirectoryService } from '#built/castore/directory/memory.js';
import type { DirectoryService } from '#built/castore/directory/service.js';
import { Directory } from '#built/castore/directory.js';
import type { Mount, MountOptions } from '#built/mount/mount.js';
import { mountStore } from '#built/mount/mount.js';
import type { Virtiofs } from '#built/mount/virtiofs.js';
import { serveVirtiofs } from '#built/mount/virtiofs.js';
import { importStorePath } from '#built/store/moving/import.js';
import { MemoryPathInfoService } from '#built/store/path-info/memory.js';
import type { PathInfoService } from '#built/store/path-info/service.js';
import type { Store } from '#built/store/services.js';
import { toHex } from '#built/util/bytes.js';
import { damaged, StoreError } from '#built/util/errors.js';
import type { Counts, GatedOptions, Service, State } from './gated-mount.ts';

type Call = { resolve(): void };
type Start = GatedOptions & Pick<MountOptions, 'mountPoint' | 'cacheDir'>;

/** What a service does with a call; a silent one never answers. */
const states: Record<Service, State> = { blobs: 'open', directories: 'open', pathInfos: 'open' };
/** Calls that wait for their gate, by service. */
const waiting: Record<Service, Set<Call>> = {
  blobs: new Set(),
  directories: new Set(),
  pathInfos: new Set(),
};
/** How often each thing was asked for: `blobs read <digest>` and so on. */
const asked = new Map<string, number>();

/** Waits at the gate; gives whether to lie. */
async function pass(service: Service, call: string, signal?: AbortSignal): Promise<boolean> {
  const key = `${service} ${call}`;
  asked.set(key, (asked.get(key) ?? 0) + 1);
  while (states[service] === 'held' || states[service] === 'silent') {
    await new Promise<void>((resolve, reject) => {
      const entry: Call = { resolve };
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

/** What a mount asks of a store. */
const gated: {
  close(): Promise<void>;
  blobs: Pick<BlobService, 'chunks' | 'read'>;
  directories: Pick<DirectoryService, 'get' | 'getRecursive'>;
  pathInfos: Pick<PathInfoService, 'get' | 'list'>;
} = {
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

/** As a service finds a lie out: when the last of it has come, and been given. */
async function* corrupted(contents: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const part of contents) {
    const copy = Uint8Array.from(part);
    copy[copy.length - 1]! ^= 1;
    yield copy;
  }
  throw damaged('these are other contents');
}

let mount: Mount | Virtiofs;

const commands = {
  async start({ trees, socket, ...options }: Start): Promise<string[]> {
    const names: string[] = [];
    for (const tree of trees) {
      const info = await importStorePath(memory, Buffer.from(tree), basename(tree));
      names.push(info.storePath.toString());
    }
    const all: MountOptions = {
      driver: 'kernel',
      listRoot: false,
      showXattr: false,
      mountOptions: { source: 'the test', others: [] },
      readers: 1,
      timeoutMs: 30_000,
      offline: false,
      verifyWhole: false,
      ...options,
      store: gated as unknown as Store,
      storeName: 'the test',
    };
    mount = socket
      ? await serveVirtiofs({ ...all, listen: { kind: 'unix', path: socket }, ownership: {} })
      : await mountStore(all);
    void mount.closed.then(() => process.disconnect());
    process.once('SIGTERM', () => void mount.stop());
    return names;
  },
  gate({ service, state }: { service: Service | 'all'; state: State }): void {
    for (const one of service === 'all' ? (Object.keys(states) as Service[]) : [service]) {
      states[one] = state;
      for (const { resolve } of waiting[one]) resolve();
      waiting[one].clear();
    }
  },
  counts(): Counts {
    const { blobs, directories, pathInfos } = waiting;
    return {
      asked: Object.fromEntries(asked),
      waiting: { blobs: blobs.size, directories: directories.size, pathInfos: pathInfos.size },
    };
  },
  statistics() {
    const { requests, nodes, bytesRead } = mount.statistics();
    return { requests: Object.fromEntries(requests), nodes, bytesRead };
  },
  /** Collects garbage: what only garbage holds on to must not be needed. */
  collect() {
    globalThis.gc!();
  },
};

interface Message {
  readonly id: number;
  readonly command: keyof typeof commands;
}

process.on('message', async ({ id, command, ...rest }: Message) => {
  try {
    // What a command takes is what `GatedMount` sends with it.
    process.send!({ id, result: await commands[command](rest as never) });
  } catch (error) {
    process.send!({ id, error: error instanceof Error ? error.stack : String(error) });
  }
});
