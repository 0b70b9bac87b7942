import type { Digest } from '../../castore/digest.ts';
import type { PathInfoService } from './service.ts';

/** Roots of the trees whose path infos are there. */
export async function* rootsIn(pathInfos: PathInfoService): AsyncGenerator<Digest> {
  for await (const { node } of pathInfos.list()) if (node.kind === 'directory') yield node.digest;
}
