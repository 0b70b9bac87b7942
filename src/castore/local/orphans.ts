import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { log } from '../../util/log.ts';
import { unlinkIfThere } from '../../util/system/file-lock.ts';
import { DIGEST_LENGTH } from '../digest.ts';
import { folders } from './chunk-files.ts';
import type { Environment } from './environment.ts';
import { parseChunkRow } from './rows.ts';
import { liveSessions } from './session.ts';

const HEX_LENGTH = DIGEST_LENGTH * 2;
/** `<digest in hex>.<suffix>`, see chunk-files.ts. */
const CHUNK_FILE = /^[0-9a-f]{64}\.[0-9a-z]{8}$/;

/**
 * Removes chunk files that no row names: those of killed writers and collectors. Gives the bytes freed.
 *
 * A file whose row has yet to come belongs to a session that lives: its name ends in the tag of that session.
 * So a file that is listed, whose tag then is that of no live session, and that no row then names, will never
 * be named.
 */
export async function removeOrphans(env: Environment): Promise<number> {
  let bytes = 0;
  const chunks = join(env.dir, 'chunks');
  for (const folder of folders(chunks)) {
    await turn();
    const names = readdirSync(folder);
    const tags = new Set(liveSessions(env).map(({ tag }) => tag));
    env.refresh();
    for (const name of names) {
      if (!CHUNK_FILE.test(name)) {
        log.warn('a file among the chunks is not of the store; it stays', { path: join(folder, name) });
        continue;
      }
      if (tags.has(name.slice(HEX_LENGTH + 1, HEX_LENGTH + 5)) || isNamed(env, name)) continue;
      const path = join(folder, name);
      const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
      if (unlinkIfThere(path)) bytes += size;
    }
  }
  return bytes;
}

/** Files on the disk, and their bytes. */
export interface FilesOnDisk {
  readonly files: number;
  readonly bytes: number;
}

/** Counts the chunk files that are on the disk, and those of them that no row names: what others are about to name, too. */
export async function countChunkFiles(env: Environment): Promise<{ all: FilesOnDisk; unnamed: FilesOnDisk }> {
  const all = { files: 0, bytes: 0 };
  const unnamed = { files: 0, bytes: 0 };
  const chunks = join(env.dir, 'chunks');
  for (const folder of existsSync(chunks) ? folders(chunks) : []) {
    await turn();
    const names = readdirSync(folder);
    env.refresh();
    for (const name of names) {
      const size = statSync(join(folder, name), { throwIfNoEntry: false })?.size;
      if (size === undefined || !CHUNK_FILE.test(name)) continue;
      for (const count of isNamed(env, name) ? [all] : [all, unnamed]) {
        count.files++;
        count.bytes += size;
      }
    }
  }
  return { all, unnamed };
}

/** Whether a row names this file. A damaged row may: what is wrong with it is for others to find. */
function isNamed(env: Environment, name: string): boolean {
  const digest = Buffer.from(name.slice(0, HEX_LENGTH), 'hex');
  const bytes = env.chunks.get(digest);
  if (!bytes) return false;
  try {
    const row = parseChunkRow(bytes, digest);
    return row.kind === 'file' && name === `${name.slice(0, HEX_LENGTH)}.${row.suffix}`;
  } catch {
    return true;
  }
}
