import type { DerivationOutput } from '../../nix/derivation.ts';
import { MAX_DERIVATION_LENGTH, outputsOf } from '../../nix/derivation.ts';
import { StorePath } from '../../nix/store-path.ts';
import { SINCE } from '../../nix/worker/protocol.ts';
import type { WireReader } from '../../nix/worker/reader.ts';
import { readPath, writePaths } from '../../store/path-info/worker.ts';
import type { OpenedStore, Services } from '../../store/services.ts';
import { Turns } from '../../util/async/turns.ts';
import { collect } from '../../util/bytes.ts';
import { damaged, invalid, StoreError } from '../../util/errors.ts';
import { find, notValid } from './queries.ts';
import type { Client, Operations } from './request.ts';

/** What is asked to be there: a path, or outputs of a derivation (`*` for all). */
interface Wanted {
  /** As it was asked for. */
  readonly text: string;
  readonly path: StorePath;
  readonly outputs: readonly string[] | undefined;
}

/** The outcome of a build that was not needed. */
const ALREADY_VALID = 2;

/** Requests about what can be built: nothing is built here, but what is there already need not be. */
export function builds(store: OpenedStore): Operations {
  /** Throws unless all of it is there. */
  const check = async (wanted: readonly Wanted[], { signal }: Client) => {
    for await (const { outputs, text, path } of lacking(store, wanted, signal))
      throw outputs ? refused(text) : notValid(path);
  };
  return {
    async BuildPaths(from) {
      const wanted = await readWanted(from);
      await from.number();
      return {
        run: async (answer, client) => {
          await check(wanted, client);
          answer.number(1);
        },
      };
    },

    async BuildPathsWithResults(from) {
      const wanted = await readWanted(from);
      await from.number();
      return {
        run: async (answer, client) => {
          await check(wanted, client);
          answer.number(wanted.length);
          for (const { text } of wanted) {
            answer.text(text).number(ALREADY_VALID).text('');
            // How often it was built, whether that came out differently, when it began and ended.
            answer.number(0).number(0).number(0).number(0);
            // What it took of the processor, which is not known.
            if (client.version >= SINCE.CPU_TIMES) answer.number(0).number(0);
            answer.number(0);
          }
        },
      };
    },

    async EnsurePath(from) {
      const path = await readPath(from);
      return {
        run: async (answer, { signal }) => {
          if (!(await find(store, path, signal))) throw notValid(path);
          answer.number(1);
        },
      };
    },

    async QueryMissing(from) {
      const wanted = await readWanted(from);
      return {
        run: async (answer, { signal }) => {
          const unknown: StorePath[] = [];
          const toBuild: StorePath[] = [];
          for await (const one of lacking(store, wanted, signal)) {
            const isKnown = one.outputs && (await find(store, one.path, signal));
            (isKnown ? toBuild : unknown).push(one.path);
          }
          writePaths(answer, toBuild);
          // To be substituted: nothing, and so there is nothing to download or to unpack.
          writePaths(answer, []);
          writePaths(answer, unknown);
          answer.number(0).number(0);
        },
      };
    },

    async QueryDerivationOutputMap(from) {
      const path = await readPath(from);
      return {
        run: async (answer, { signal }) => {
          const outputs = await outputsIn(store, path, signal);
          answer.number(outputs.length);
          for (const { name, path } of outputs) answer.text(name).text(path ? path.absolute() : '');
        },
      };
    },
  };
}

async function readWanted(from: WireReader): Promise<Wanted[]> {
  return (await from.texts()).map((text) => {
    // Nix writes them apart by `!`, and what follows a `^` is as people write it.
    const [path = '', outputs, ...more] = text.split('!');
    if (more.length > 0)
      throw new StoreError('UNIMPLEMENTED', `${text}: outputs of what is built are not known here`);
    return { text, path: StorePath.parseAbsolute(path), outputs: outputs?.split(',') };
  });
}

/** Those of which something is not there. Others have their turn meanwhile. */
async function* lacking(
  store: OpenedStore,
  wanted: readonly Wanted[],
  signal: AbortSignal,
): AsyncGenerator<Wanted> {
  const turns = new Turns(signal);
  for (const one of wanted) {
    if ((await missingOf(store, one, signal)).length > 0) yield one;
    if (turns.isDue) await turns.take();
  }
}

/** What of it is not there: paths, or names of outputs. */
async function missingOf(
  store: OpenedStore,
  { path, outputs }: Wanted,
  signal: AbortSignal,
): Promise<readonly (StorePath | string)[]> {
  if (!outputs) return (await find(store, path, signal)) ? [] : [path];
  if (!(await find(store, path, signal))) return [path];
  const all = await outputsIn(store, path, signal);
  const missing: string[] = [];
  for (const name of outputs.includes('*') ? all.map((output) => output.name) : outputs) {
    const output = all.find((one) => one.name === name);
    if (!output) throw invalid(`${path.absolute()} has no output ${JSON.stringify(name)}`);
    if (!output.path || !(await find(store, output.path, signal))) missing.push(name);
  }
  return missing;
}

async function outputsIn(store: Services, path: StorePath, signal: AbortSignal): Promise<DerivationOutput[]> {
  const info = await store.pathInfos.get(path.hash, signal);
  if (info?.storePath.name !== path.name) throw notValid(path);
  if (info.node.kind !== 'file') throw invalid(`${path.absolute()} is no derivation`);
  const contents = await store.blobs.read(info.node.digest, { signal });
  if (!contents) throw damaged(`${path.absolute()}: its contents are missing`);
  const bytes = await collect(contents, MAX_DERIVATION_LENGTH);
  if (!bytes) throw new StoreError('RESOURCE_EXHAUSTED', `${path.absolute()} is too large for a derivation`);
  return outputsOf(Buffer.from(bytes).toString());
}

function refused(what: string): StoreError {
  return new StoreError(
    'UNIMPLEMENTED',
    `${what} is not here, and nothing is built here: build it in a store of Nix that has this one as its lower store or substituter`,
  );
}
