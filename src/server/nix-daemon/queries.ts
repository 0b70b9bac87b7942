import { decodeBase32 } from '../../nix/base32.ts';
import type { StorePath } from '../../nix/store-path.ts';
import { WireWriter } from '../../nix/worker/writer.ts';
import { UseTable } from '../../store/keeping/uses.ts';
import { renderHeld } from '../../store/nar/held.ts';
import type { PathDescription, PathInfo } from '../../store/path-info/path-info.ts';
import { readPath, readPaths, writeDescription, writePaths } from '../../store/path-info/worker.ts';
import type { OpenedStore, Services } from '../../store/services.ts';
import { mapAhead } from '../../util/async/iterables.ts';
import { Turns } from '../../util/async/turns.ts';
import { invalid, StoreError } from '../../util/errors.ts';
import { Referrers } from './referrers.ts';
import type { Operations, Request } from './request.ts';

/** Paths that are looked for at once. */
const AT_ONCE = 32;
const HASH_PART = /^[0-9a-df-np-sv-z]{32}$/;

/** Requests that only read. */
export function queries(store: OpenedStore): Operations {
  const { pathInfos } = store;
  const uses = store.local && new UseTable(store.local.env);
  const referrers = new Referrers(pathInfos);
  /** What was answered about path infos, for as long as those are remembered. */
  const answers = new WeakMap<PathDescription, Uint8Array>();
  const answerAbout = (info: PathDescription) => {
    let answer = answers.get(info);
    if (!answer) {
      const writer = new WireWriter().flag(true);
      writeDescription(writer, info, uses?.get(info.storePath.hash).added);
      answer = writer.take();
      answers.set(info, answer);
    }
    return answer;
  };
  return {
    async IsValidPath(from) {
      const path = await readPath(from);
      return {
        run: async (answer, { signal }) => {
          answer.flag((await find(store, path, signal)) !== undefined);
        },
      };
    },

    async QueryPathInfo(from) {
      const path = await readPath(from);
      return {
        run: async (answer, { signal }) => {
          const info = named(path, await pathInfos.describe(path.hash, signal));
          if (info) answer.bytes(answerAbout(info));
          else answer.flag(false);
        },
      };
    },

    async QueryValidPaths(from) {
      const paths = await readPaths(from);
      // Whether those that are not there are to be substituted: whatever can be had is there.
      await from.flag();
      return {
        run: async (answer, { signal }) => {
          const valid: StorePath[] = [];
          const turns = new Turns(signal);
          for await (const info of mapAhead(paths, AT_ONCE, (path) => find(store, path, signal))) {
            if (info) valid.push(info.storePath);
            if (turns.isDue) await turns.take();
          }
          writePaths(answer, valid);
        },
      };
    },

    async QueryAllValidPaths() {
      return {
        run: async (answer, { signal }) => {
          const paths: StorePath[] = [];
          for await (const { storePath } of pathInfos.list(signal)) paths.push(storePath);
          writePaths(answer, paths);
        },
      };
    },

    async QueryPathFromHashPart(from) {
      const hashPart = await from.text();
      if (!HASH_PART.test(hashPart)) throw invalid('not the hash of a store path');
      return {
        run: async (answer, { signal }) => {
          const info = await pathInfos.describe(decodeBase32(hashPart), signal);
          answer.text(info ? info.storePath.absolute() : '');
        },
      };
    },

    async QueryReferrers(from) {
      const path = await readPath(from);
      return { run: async (answer) => writePaths(answer, await referrers.of(path)) };
    },

    async QueryValidDerivers(from) {
      const path = await readPath(from);
      return {
        run: async (answer, { signal }) => {
          const deriver = (await find(store, path, signal))?.deriver;
          const isThere = deriver && (await pathInfos.describe(deriver.hash, signal));
          answer.texts(isThere ? [isThere.storePath.absolute()] : []);
        },
      };
    },

    async NarFromPath(from) {
      const path = await readPath(from);
      let info: PathInfo | undefined;
      return {
        run: async (_answer, { signal }) => {
          info = await pathInfos.get(path.hash, signal);
          if (info?.storePath.name !== path.name) throw notValid(path);
        },
        behind: (signal) => renderHeld(store, info!, { signal }),
      };
    },

    // Whatever can be had from elsewhere is here already.
    QuerySubstitutablePaths: async (from) => {
      await readPaths(from);
      return nothing;
    },
    QuerySubstitutablePathInfos: async (from) => {
      const count = await from.count('the length of a list', 1 << 20);
      for (let i = 0; i < count; i++) await from.text().then(() => from.text());
      return nothing;
    },
  };
}

/** Answers with an empty list. */
const nothing: Request = {
  run: async (answer) => {
    answer.number(0);
  },
};

/** What is known of a store path; `undefined` when it is not there. */
export async function find(
  { pathInfos }: Services,
  path: StorePath,
  signal: AbortSignal,
): Promise<PathDescription | undefined> {
  return named(path, await pathInfos.describe(path.hash, signal));
}

/** What was found by the hash of a path, if it has the path's name, too. */
function named(path: StorePath, info: PathDescription | undefined): PathDescription | undefined {
  return info?.storePath.name === path.name ? info : undefined;
}

/** As Nix says it: some of its callers look for these words. */
export function notValid(path: StorePath): StoreError {
  return new StoreError('NOT_FOUND', `path '${path.absolute()}' is not valid`);
}
