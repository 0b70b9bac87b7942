import { readlink } from 'node:fs/promises';
import { STORE_DIR, StorePath } from '../../nix/store-path.ts';
import type { WireReader } from '../../nix/worker/reader.ts';
import { keepTree } from '../../store/keeping/keep-tree.ts';
import { RootTable } from '../../store/keeping/roots.ts';
import { readPath, readPaths } from '../../store/path-info/worker.ts';
import type { OpenedStore } from '../../store/services.ts';
import { invalid, StoreError } from '../../util/errors.ts';
import { notValid } from './queries.ts';
import type { Operations, Request, RequestReader } from './request.ts';

/** Requests about what is to stay, and those that Nix's own daemon does to its own store only. */
export function keeping(store: OpenedStore): Operations {
  const { local } = store;
  return {
    async SetOptions(from) {
      // Twelve of them, and then those that are named.
      for (let i = 0; i < 12; i++) await from.number();
      const count = await from.count('the length of a list', 1 << 16);
      for (let i = 0; i < 2 * count; i++) await from.text();
      return { run: async () => {} };
    },

    async AddTempRoot(from) {
      const path = await readPath(from);
      return {
        async run(answer, { signal }) {
          // A session of this process keeps it for as long as this lives.
          const info = local?.isWritable ? await store.pathInfos.get(path.hash, signal) : undefined;
          if (info) await keepTree(store, info.node, signal);
          answer.number(1);
        },
      };
    },

    // A collection sees to it itself that it takes nothing that is relied on.
    SyncWithGC: async () => done,

    async FindRoots() {
      return {
        async run(answer) {
          const roots = local ? new RootTable(local.env).list() : [];
          answer.number(roots.length);
          for (const { name, storePath } of roots) answer.text(name).text(storePath.absolute());
        },
      };
    },

    async AddIndirectRoot(from) {
      const link = await from.text();
      return {
        async run(answer, client) {
          client.mayWrite();
          if (!local) throw unimplemented('roots are kept by a local store only');
          const path = storePathBehind(await readlink(link));
          const info = await store.pathInfos.get(path.hash, client.signal);
          if (info?.storePath.name !== path.name) throw notValid(path);
          await new RootTable(local.env).addBy(local.writer, link, path);
          answer.number(1);
        },
      };
    },
    AddPermRoot: refused(async (from) => {
      await readPath(from);
      await from.text();
    }, 'hold store paths by tvix-store root add'),
    CollectGarbage: refused(async (from) => {
      await from.number();
      await readPaths(from);
      for (let i = 0; i < 5; i++) await from.number();
    }, 'collect garbage by tvix-store gc'),
    OptimiseStore: refused(async () => {}, 'equal files are kept once already'),
    VerifyStore: refused(async (from) => {
      await from.number();
      await from.number();
    }, 'check it by tvix-store fsck'),
  };
}

const done: Request = {
  run: async (answer) => {
    answer.number(1);
  },
};

/** The store path that a link leads to, or into. */
function storePathBehind(target: string): StorePath {
  const [, path] = new RegExp(`^(${STORE_DIR}/[^/]+)`).exec(target) ?? [];
  if (path === undefined) throw invalid(`a link to ${JSON.stringify(target)}, which is not in ${STORE_DIR}`);
  return StorePath.parseAbsolute(path);
}

/** A request that is understood, and not done here. */
function refused(read: (from: WireReader) => Promise<void>, instead: string): RequestReader {
  return async (from) => {
    await read(from);
    return {
      run: async () => {
        throw unimplemented(instead);
      },
    };
  };
}

function unimplemented(instead: string): StoreError {
  return new StoreError('UNIMPLEMENTED', `this is a store of tvix-store: ${instead}`);
}
