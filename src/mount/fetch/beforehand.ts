import { loadChunker } from '../../castore/blob/local.ts';
import { prepareXz } from '../../util/compression/xz.ts';

/**
 * Loads what taking whole store paths needs and is otherwise loaded when it is needed: by then its files may lie in the
 * mount, and this side, which waits for them to be read, is the one that would have to fetch them.
 */
export async function loadBeforehand(): Promise<void> {
  await Promise.all([loadChunker(), prepareXz()]);
}
