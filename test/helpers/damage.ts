import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LocalStore } from '../../src/castore/local/store.ts';
import { chunkFiles } from './rot.ts';

/** What may happen to what a store has on disk. */
export type Damage = 'missing' | 'cut' | 'swapped chunks' | 'swapped lists';
export const DAMAGES: readonly Damage[] = ['missing', 'cut', 'swapped chunks', 'swapped lists'];

/** Damages a store at rest; `which` chooses among what it has. */
export async function damageLeaf(
  { kind, dir }: { readonly kind: 'local' | 'objects'; readonly dir: string },
  damage: Damage,
  which: number,
): Promise<void> {
  if (!existsSync(dir)) return;
  if (damage === 'swapped lists' && kind === 'local') return swapLists(dir);
  const files =
    kind === 'local' ? chunksIn(dir) : objectsIn(dir, damage === 'swapped lists' ? 'blobs' : 'chunks');
  if (files.length < 2) return;
  const one = files[which % files.length]!;
  const other = files[(which + 1) % files.length]!;
  if (damage === 'missing') rmSync(one);
  else if (damage === 'cut') truncateSync(one, Math.floor(readFileSync(one).length / 2));
  else {
    const [first, second] = [readFileSync(one), readFileSync(other)];
    writeFileSync(one, second);
    writeFileSync(other, first);
  }
}

function chunksIn(dir: string): string[] {
  return existsSync(join(dir, 'chunks')) ? chunkFiles(dir) : [];
}

function objectsIn(dir: string, kind: string): string[] {
  const folder = join(dir, kind);
  if (!existsSync(folder)) return [];
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** Has each of two blobs in a local store say that it is another. */
async function swapLists(dir: string): Promise<void> {
  const local = LocalStore.openToFill(dir);
  const { manifests } = local.env;
  const [one, other] = [...manifests.rows()].map(({ key, value }) => ({
    key: Uint8Array.from(key),
    value: Uint8Array.from(value),
  }));
  if (one && other) {
    await manifests.put(one.key, other.value);
    await manifests.put(other.key, one.value);
  }
  await local.close();
}
