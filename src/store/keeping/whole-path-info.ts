import { type Code, StoreError } from '../../util/errors.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { Store } from '../services.ts';
import { keepTree } from './keep-tree.ts';

/** A path is not there, or not as it should be. */
const NOT_WHOLE: readonly Code[] = ['DATA_LOSS', 'FAILED_PRECONDITION'];
/** Nothing may be put, not even what is there. */
const UNTOLD: readonly Code[] = ['PERMISSION_DENIED', 'UNAUTHENTICATED', 'UNIMPLEMENTED'];

/**
 * The path info of a path that a store has where puts go, with all of its contents: who finds it need not send them.
 * What is damaged is not there.
 */
export async function wholePathInfo(
  store: Store,
  hash: Uint8Array,
  signal?: AbortSignal,
): Promise<PathInfo | undefined> {
  const target = store.pathInfos.target ?? store.pathInfos;
  let info: PathInfo | undefined;
  try {
    info = await target.get(hash, signal);
    if (!info) return undefined;
    // Such a store looks for them itself, which takes one question.
    if (target.checksContents) return await target.put(info, signal);
    return (await keepTree(store, info.node, signal)) ? info : undefined;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    if (NOT_WHOLE.includes(error.code)) return undefined;
    if (info && target.checksContents && UNTOLD.includes(error.code)) return info;
    throw error;
  }
}
