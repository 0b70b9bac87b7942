import { LocalBlobService } from '../../castore/blob/local.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import { latin1 } from '../../util/bytes.ts';
import type { PathDescription } from '../path-info/path-info.ts';
import type { SideFileName } from './name.ts';
import { parseSideFileName } from './name.ts';
import type { SideFileContents } from './side-files.ts';
import { contentsOf } from './side-files.ts';
import { SideFileTable } from './table.ts';

type Named = readonly [name: SideFileName, contents: SideFileContents];

/** The logs and realisations of a local store, as they are at one time, by what they go with. Nothing is written for it. */
export class SideFilesByOwner {
  readonly #files = new Map<string, Named[]>();

  private constructor() {}

  static async of(store: LocalStore): Promise<SideFilesByOwner> {
    const all = new SideFilesByOwner();
    const blobs = new LocalBlobService(store);
    for await (const file of new SideFileTable(store).all()) {
      const name = parseSideFileName(file.name);
      // Debug information names a NAR as it is called here.
      if (!name || name.kind === 'debug-info') continue;
      const key = latin1(file.owner);
      const named = all.#files.get(key) ?? [];
      named.push([name, contentsOf(blobs, file)]);
      all.#files.set(key, named);
    }
    return all;
  }

  /** Those of a store path, the log of its derivation among them. */
  for({ storePath, deriver }: PathDescription): Named[] {
    const owners = [storePath, ...(deriver ? [deriver] : [])];
    return owners.flatMap(({ hash }) => this.#files.get(latin1(hash)) ?? []);
  }
}
