import { DigestMap } from '../../../castore/local/digest-map.ts';
import type { ListedObject, ObjectStore, OurKind } from '../../../castore/objects/object-store.ts';
import { mapAhead } from '../../../util/async/iterables.ts';
import { asBuffer } from '../../../util/bytes.ts';
import { decodePathInfo } from '../../path-info/message.ts';
import { MAX_PATH_INFO, PATH_INFO_PREFIX, pathInfoKey } from '../../path-info/object-store.ts';
import type { PathInfo } from '../../path-info/path-info.ts';

const READ_AT_ONCE = 32;
const DIGEST = /^[0-9a-f]{64}$/;

/** An object that is kept by its digest. */
export interface ListedContent extends ListedObject {
  readonly digest: Uint8Array;
}

/** The objects of a kind. What has no name of theirs is somebody else's. */
export async function* contentsOf(
  objects: ObjectStore,
  kind: OurKind,
  signal?: AbortSignal,
): AsyncGenerator<ListedContent> {
  for await (const object of objects.list(`${kind}/b3/`, signal)) {
    const hex = object.key.slice(object.key.lastIndexOf('/') + 1);
    if (DIGEST.test(hex)) yield { ...object, digest: Buffer.from(hex, 'hex') };
  }
}

/** The digests of the objects of a kind. */
export async function digestsOf(
  objects: ObjectStore,
  kind: OurKind,
  signal?: AbortSignal,
): Promise<DigestMap> {
  const digests = new DigestMap();
  for await (const { digest } of contentsOf(objects, kind, signal)) digests.set(digest);
  return digests;
}

/** A path info with its object; what it says is `undefined` when that is damaged. */
export interface ListedPathInfo extends ListedObject {
  readonly info: PathInfo | undefined;
}

/** All path infos, those that are damaged as well. */
export async function* listPathInfos(
  objects: ObjectStore,
  signal?: AbortSignal,
): AsyncGenerator<ListedPathInfo> {
  const read = async (object: ListedObject) => {
    const isTooLong = object.size > MAX_PATH_INFO;
    const found = isTooLong ? undefined : await objects.get(object.key, MAX_PATH_INFO, signal);
    return found || isTooLong ? { ...object, info: found && decoded(object.key, found.bytes) } : undefined;
  };
  for await (const one of mapAhead(objects.list(PATH_INFO_PREFIX, signal), READ_AT_ONCE, read))
    if (one) yield one;
}

function decoded(key: string, bytes: Uint8Array): PathInfo | undefined {
  try {
    const info = decodePathInfo(asBuffer(bytes));
    return pathInfoKey(info.storePath.hash) === key ? info : undefined;
  } catch {
    return undefined;
  }
}
