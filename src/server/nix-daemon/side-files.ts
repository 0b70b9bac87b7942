import { Frames } from '../../nix/worker/reader.ts';
import { parseObject, parseSideFileName, realisationOf } from '../../store/side-files/name.ts';
import type { SideFiles } from '../../store/side-files/side-files.ts';
import { invalid } from '../../util/errors.ts';
import type { Operations } from './request.ts';

/** Requests about logs of builds, and about outputs of derivations that are addressed by their contents. */
export function sideFiles(files: SideFiles): Operations {
  return {
    async AddBuildLog(from) {
      // Without the store directory, other than everywhere else.
      const name = parseSideFileName(`log/${await from.text()}`);
      const contents = new Frames(from);
      return {
        contents,
        async run(answer, client) {
          await client.mayUpload();
          if (!name) throw invalid('this is no derivation whose log could be kept');
          await files.put(name, { [Symbol.asyncIterator]: () => contents }, client.signal);
          answer.number(1);
        },
      };
    },

    async RegisterDrvOutput(from) {
      const contents = Buffer.from(await from.text());
      return {
        async run(_answer, client) {
          client.mayWrite();
          const { id } = parseObject(contents);
          await files.put(realisationOf(String(id)), parts(contents), client.signal);
        },
      };
    },

    async QueryRealisation(from) {
      const output = await from.text();
      return {
        async run(answer, { signal }) {
          const found = await files.realisation(realisationOf(output), signal);
          answer.texts(found ? [JSON.stringify(found.fields)] : []);
        },
      };
    },
  };
}

async function* parts(...bytes: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* bytes;
}
