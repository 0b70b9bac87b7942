import { StorePath } from '../../nix/store-path.ts';
import { WireReader } from '../../nix/worker/reader.ts';
import { WireWriter } from '../../nix/worker/writer.ts';
import { invalid, StoreError } from '../../util/errors.ts';
import { ingestNar } from '../nar/ingest.ts';
import { renderNar } from '../nar/render.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { OpenedStore, Services } from '../services.ts';
import { PathInfoTaker } from '../upload/path-info.ts';
import { UploadTables } from '../upload/tables.ts';

/*
 * What `nix-store --export` writes: for each path a 1, its NAR, the mark, its name, references and deriver (texts), and a 0,
 * which once stood before a signature; then a 0. Numbers and texts are as in the worker protocol.
 */
const MARK = 0x4558494e;
const DERIVATION = '.drv';
/** Words of a NAR that bytes follow, rather than another word. */
const BEFORE_BYTES = new Set(['contents', 'name', 'target']);
const MAX_WORD_LENGTH = 32;

/** Whether a stream that begins so is an export, and no NAR. */
export function isExport(begin: Uint8Array): boolean {
  return begin.length >= 8 && begin[0]! <= 1 && begin.subarray(1, 8).every((byte) => byte === 0);
}

/** Writes store paths as `nix-store --import` reads them: each after what it refers to. */
export async function* exportPaths(
  store: Services,
  paths: readonly PathInfo[],
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const to = new WireWriter();
  for (const { storePath, references, deriver, node } of paths) {
    yield to.number(1).take();
    yield* renderNar(store, node, { signal });
    to.number(MARK).text(storePath.absolute());
    to.texts(references.map((path) => path.absolute()));
    yield to
      .text(deriver ? deriver.absolute() + DERIVATION : '')
      .number(0)
      .take();
  }
  yield to.number(0).take();
}

/**
 * Takes store paths from such a stream, which says nothing of their hashes: whoever reads it believes it. Paths that are there
 * stay as they are. `onTaken` hears of each when it is durable. Throws INVALID_ARGUMENT for another stream,
 * FAILED_PRECONDITION when references are missing.
 */
export async function importExport(
  store: OpenedStore,
  stream: AsyncIterable<Uint8Array>,
  { onTaken, onProgress }: { onTaken: (path: StorePath) => void; onProgress?: (bytes: number) => void },
): Promise<void> {
  const taker = new PathInfoTaker(store, new UploadTables(store.records()));
  const from = new WireReader(stream[Symbol.asyncIterator]());
  try {
    for (;;) {
      from.begin();
      const more = await from.number();
      if (more === 0n) return;
      if (more !== 1n) throw invalid('this is not what nix-store --export writes');
      const nar = await ingestNar(narIn(from), store, onProgress ? { onProgress } : {});
      if ((await from.number()) !== BigInt(MARK))
        throw invalid('a NAR in the export does not end where it should');
      const storePath = StorePath.parseAbsolute(await from.text());
      const references = (await from.texts()).map((path) => StorePath.parseAbsolute(path));
      const deriver = await from.text();
      if (await from.flag()) await from.text();
      const present = await store.pathInfos.describe(storePath.hash);
      if (!present) {
        const isKnown = deriver.endsWith(DERIVATION);
        const info = {
          ...nar,
          storePath,
          references,
          signatures: [],
          deriver: isKnown ? StorePath.parseAbsolute(deriver.slice(0, -DERIVATION.length)) : undefined,
        };
        await taker.takeIngested(info, nar);
      }
      onTaken(storePath);
    }
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'CANCELLED') throw error;
    throw invalid('the export ends too early', { cause: error });
  }
}

/** The bytes of one NAR within a stream. They are only cut out here; whether it is one, its reader says. */
async function* narIn(from: WireReader): AsyncGenerator<Uint8Array> {
  const length = new WireWriter();
  let open = 0;
  let last = '';
  do {
    const size = await from.count('a length in a NAR');
    yield length.number(size).take();
    if (BEFORE_BYTES.has(last)) {
      yield* from.pieces(size + (-size & 7));
      last = '';
      continue;
    }
    if (size > MAX_WORD_LENGTH) throw invalid('there is no NAR in the export where one should be');
    const bytes = Buffer.from(await from.bytes(size + (-size & 7)));
    yield bytes;
    last = bytes.toString('latin1', 0, size);
    if (last === '(') open++;
    if (last === ')') open--;
  } while (open > 0 || last === 'nix-archive-1');
}
