import { latin1 } from '../../util/bytes.ts';
import { systemCode } from '../../util/errors.ts';
import type { OpenDirectory } from '../../util/system/open-directory.ts';
import type { FileNode } from '../node.ts';

/** Why a link cannot be made where a copy can: too many, not on this file system, gone, out of reach. */
const COPY_INSTEAD = new Set(['EMLINK', 'EPERM', 'EXDEV', 'ENOENT', 'EOPNOTSUPP', 'ENAMETOOLONG']);

/** Where a tree is: a name in a directory. The name changes once. */
export interface TreePlace {
  readonly parent: OpenDirectory;
  name: string;
}

/** Files that have been written, so that equal ones can be links to them. */
export class HardLinks {
  readonly #files = new Map<string, { readonly place: TreePlace; readonly path: Buffer }>();

  /** Makes a link to an equal file. False when there is none that can be linked to: write it. */
  link(file: FileNode, directory: OpenDirectory, name: Uint8Array): boolean {
    const equal = this.#files.get(keyOf(file));
    if (!equal) return false;
    const { place, path } = equal;
    try {
      directory.link(place.parent, Buffer.concat([Buffer.from(place.name), path]), name);
      return true;
    } catch (error) {
      if (COPY_INSTEAD.has(systemCode(error) ?? '')) return false;
      throw error;
    }
  }

  /** Tells of a file that is complete; `path` leads to it from its place. */
  written(file: FileNode, place: TreePlace, path: Buffer): void {
    this.#files.set(keyOf(file), { place, path });
  }
}

function keyOf({ digest, executable }: FileNode): string {
  return `${executable ? 'x' : '-'}${latin1(digest.bytes)}`;
}
