import { Digest } from '../../castore/digest.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { ContentNeed } from '../../fs/need.ts';
import { encodeBase32 } from '../../nix/base32.ts';
import { STORE_DIR } from '../../nix/store-path.ts';
import { PathInfoTable } from '../../store/path-info/local.ts';
import { damaged } from '../../util/errors.ts';

/**
 * Finds out why a local store that nothing stands behind does not have what a reader needs, and marks what is rotten
 * for fsck. Throws DATA_LOSS, which names the store path; it returns when the content can be read by now.
 */
export function diagnose(local: LocalStore, need: ContentNeed): void {
  if (need.kind === 'directory') {
    if (!local.reader.directory(need.digest))
      throw lost(local, need.storePath, `directory ${Digest.of(need.digest)}`);
  } else if (need.kind === 'blob') {
    const { reader, env } = local;
    const digest = Digest.of(need.digest);
    let end = 0;
    for (const chunk of reader.manifest(need.digest) ?? [{ digest, size: need.size }]) {
      end += chunk.size;
      const isWanted = end > need.offset && end - chunk.size < need.offset + need.length;
      if (!isWanted || reader.hasChunk(chunk.digest.bytes)) continue;
      const isRotten = reader.isRotten(chunk.digest.bytes);
      if (isRotten) env.rotten.note(chunk.digest);
      const how = isRotten ? 'damaged' : 'missing';
      throw lost(local, need.storePath, `chunk ${chunk.digest} of blob ${digest}`, how);
    }
  }
}

function lost(local: LocalStore, hash: Uint8Array, what: string, how = 'missing or damaged') {
  const path =
    new PathInfoTable(local.env).get(hash)?.storePath.absolute() ?? `${STORE_DIR}/${encodeBase32(hash)}-…`;
  return damaged(`${what} is ${how} in ${local.env.dir}; it belongs to ${path}. tvix-store fsck tells more`);
}
