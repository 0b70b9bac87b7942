import { createHash } from 'node:crypto';
import type { CaType } from '../../nix/content-address.ts';
import { CA_TYPES, caAlgorithm } from '../../nix/content-address.ts';
import { checkName, StorePath } from '../../nix/store-path.ts';
import { Frames, WireReader } from '../../nix/worker/reader.ts';
import { calculateNar } from '../../store/nar/calculate.ts';
import type { IngestedNar } from '../../store/nar/ingest.ts';
import { ingestNar } from '../../store/nar/ingest.ts';
import type { PathDescription, PathInfo } from '../../store/path-info/path-info.ts';
import {
  readDescription,
  readPath,
  readPaths,
  readSignatures,
  writeDescription,
} from '../../store/path-info/worker.ts';
import type { OpenedStore } from '../../store/services.ts';
import { PathInfoTaker } from '../../store/upload/path-info.ts';
import type { UploadTables } from '../../store/upload/tables.ts';
import { InFlight } from '../../util/async/in-flight.ts';
import { latin1 } from '../../util/bytes.ts';
import { invalid, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { notValid } from './queries.ts';
import type { Operations } from './request.ts';

/** Paths that may be added by one request. */
const MAX_PATHS = 1 << 20;
/** What may wait to be durable at once: paths, with their references and signatures. */
const MAX_IN_FLIGHT = 4096;

/** Requests that add something. Each is answered when that is durable. */
export function additions(store: OpenedStore, tables: UploadTables): Operations {
  const taker = new PathInfoTaker(store, tables);
  const take = async (info: PathDescription, nar: IngestedNar, signal: AbortSignal) => {
    await taker.takeIngested(info, nar, signal);
    log.info('taken', { path: info.storePath.absolute() });
  };
  return {
    async AddToStoreNar(from) {
      const info = await readDescription(from);
      // Whether it is to be put again, and whether signatures matter: it is, and contents do.
      await from.number();
      await from.number();
      const contents = new Frames(from);
      return {
        contents,
        async run(_answer, client) {
          await client.mayUpload();
          const nar = await ingestNar(whole(contents, Number(info.narSize)), store, client);
          await take(info, nar, client.signal);
        },
      };
    },

    async AddMultipleToStore(from) {
      await from.number();
      await from.number();
      const contents = new Frames(from);
      return {
        contents,
        async run(_answer, client) {
          await client.mayUpload();
          const paths = new WireReader(contents);
          const count = await paths.count('the number of paths', MAX_PATHS);
          // Each waits for what it refers to; together they wait for the disk.
          const underWay = new Map<string, Promise<void>>();
          const inFlight = new InFlight(MAX_IN_FLIGHT);
          for (let i = 0; i < count; i++) {
            paths.begin();
            const info = await readDescription(paths);
            const nar = await ingestNar(paths.pieces(Number(info.narSize)), store, client);
            const before = info.references.map(({ hash }) => underWay.get(latin1(hash)));
            const key = latin1(info.storePath.hash);
            const done = Promise.all(before)
              .then(() => take(info, nar, client.signal))
              .then(() => void underWay.delete(key));
            underWay.set(key, done);
            inFlight.add(done, 1 + info.references.length + info.signatures.length);
            await inFlight.room();
            inFlight.check();
          }
          await inFlight.ended();
          inFlight.check();
        },
      };
    },

    async AddToStore(from) {
      const name = await from.text();
      const type = await from.text();
      const references = await readPaths(from);
      await from.number();
      const contents = new Frames(from);
      return {
        contents,
        async run(answer, client) {
          await client.mayUpload();
          checkName(name);
          const info = await add(store, { name, type: caTypeOf(type), references, contents }, client.signal);
          await take(info, info, client.signal);
          answer.text(info.storePath.absolute());
          writeDescription(answer, info);
        },
      };
    },

    async AddSignatures(from) {
      const path = await readPath(from);
      const signatures = await readSignatures(from);
      return {
        async run(answer, client) {
          client.mayWrite();
          const info = await store.pathInfos.get(path.hash, client.signal);
          if (info?.storePath.name !== path.name) throw notValid(path);
          await store.pathInfos.put({ ...info, signatures }, client.signal);
          answer.number(1);
        },
      };
    },
  };
}

/** The contents of a request, which must be so long. */
async function* whole(contents: Frames, length: number): AsyncGenerator<Uint8Array> {
  let left = length;
  for (let part = await contents.next(); !part.done; part = await contents.next()) {
    left -= part.value.length;
    if (left < 0) throw invalid(`a NAR that is longer than ${length} bytes`);
    yield part.value;
  }
  if (left > 0) throw invalid(`a NAR that is ${left} bytes shorter than ${length}`);
}

/** `fixed:git:…` and `blake3` are of newer Nixes, and experimental there. */
function caTypeOf(text: string): CaType {
  const type = CA_TYPES.find((known) => known === text);
  if (type) return type;
  throw new StoreError(
    'UNIMPLEMENTED',
    `content addresses of the kind ${JSON.stringify(text)} are not known here`,
  );
}

interface Addition {
  readonly name: string;
  readonly type: CaType;
  readonly references: readonly StorePath[];
  readonly contents: Frames;
}

/** Brings contents into the store, and finds out which path they have. */
async function add(store: OpenedStore, addition: Addition, signal: AbortSignal): Promise<PathInfo> {
  const { name, type, references, contents } = addition;
  const hash = createHash(caAlgorithm(type));
  const hashed = async function* () {
    for (let part = await contents.next(); !part.done; part = await contents.next()) {
      hash.update(part.value);
      yield part.value;
    }
  };
  const isNar = type.startsWith('fixed:r:');
  const stored = isNar
    ? await ingestNar(hashed(), store, { signal })
    : await addFile(store, hashed(), signal);
  const ca = { type, digest: hash.digest() };
  return { ...stored, storePath: StorePath.ofContent(name, ca, references), references, signatures: [], ca };
}

async function addFile(store: OpenedStore, contents: AsyncIterable<Uint8Array>, signal: AbortSignal) {
  const { digest, size } = await store.blobs.put(contents, { signal });
  await store.blobs.flush();
  const node = { kind: 'file', digest, size: BigInt(size), executable: false } as const;
  return { node, ...(await calculateNar(store, node, signal)) };
}
