import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { Directory } from '../../src/castore/directory.ts';
import { exportTree } from '../../src/castore/export/file-system.ts';
import { ExportFolder } from '../../src/castore/export/folder.ts';
import { HardLinks } from '../../src/castore/export/hard-links.ts';
import { ServiceTreeSource } from '../../src/castore/export/service-source.ts';
import type { FileNode, Name, Node } from '../../src/castore/node.ts';
import type { Services } from '../../src/store/services.ts';
import { codeOf, memoryStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

async function putFile(store: Services, contents: string): Promise<FileNode> {
  const { digest } = await store.blobs.put(Buffer.from(contents));
  return { kind: 'file', digest, size: BigInt(contents.length), executable: false };
}

async function putDirectory(store: Services, entries: Record<string, Node>): Promise<Node> {
  const directory = Directory.of(
    Object.entries(entries).map(([name, node]) => [Buffer.from(name) as Uint8Array as Name, node]),
  );
  await store.directories.put(directory);
  return { kind: 'directory', digest: directory.digest, size: directory.size };
}

/** Exports a tree as `name` in a directory. */
async function exporting(store: Services, root: Node, dir: string, hardLinks?: HardLinks): Promise<void> {
  const folder = ExportFolder.open(dir);
  try {
    const place = folder.place();
    await exportTree(root, place, await ServiceTreeSource.open(store, root), { hardLinks });
    expect(folder.publish(place, 'name')).toBe(true);
  } finally {
    folder.close();
  }
}

describe('an export', () => {
  test('copies where a file has as many links as it can have', async () => {
    const store = memoryStore();
    const same = await putFile(store, 'same');
    // One more than ext4 allows.
    const entries = Array.from({ length: 65_001 }, (_, i) => [`f${i}`, same] as const);
    const root = await putDirectory(store, Object.fromEntries(entries));
    const dir = tempDir();
    await exporting(store, root, dir, new HardLinks());
    const names = readdirSync(join(dir, 'name'));
    expect(names).toHaveLength(65_001);
    const inodes = new Map<number, number>();
    for (const name of names) {
      const { ino, nlink, size } = statSync(join(dir, 'name', name));
      expect(size).toBe(4);
      inodes.set(ino, nlink);
    }
    expect([...inodes.values()].reduce((sum, links) => sum + links)).toBe(65_001);
    expect(inodes.size).toBeLessThanOrEqual(2);
  });

  test('writes trees that are deeper than a path may be long, and takes them away', async () => {
    const store = memoryStore();
    let deep = await putFile(store, 'deep');
    const wrong: Node = { ...deep, size: 5n };
    let bad: Node = wrong;
    for (let i = 0; i < 900; i++) {
      deep = (await putDirectory(store, { 'a-name': deep })) as unknown as FileNode;
      bad = await putDirectory(store, { 'a-name': bad });
    }
    const dir = tempDir();
    await exporting(store, deep, dir);
    expect(readdirSync(dir)).toEqual(['name']);
    expect(await codeOf(exporting(store, bad, dir))).toBe('DATA_LOSS');
    expect(readdirSync(dir)).toEqual(['name']);
    // Node could not remove it.
    spawnSync('chmod', ['-R', 'u+w', join(dir, 'name')]);
    spawnSync('rm', ['-r', join(dir, 'name')]);
  });

  test.each([
    ['longer than its file says', (file: FileNode) => ({ ...file, size: 3n })],
    ['shorter', (file: FileNode) => ({ ...file, size: 5n })],
    ['much longer', (file: FileNode) => ({ ...file, size: 2n << 30n })],
    ['missing', (file: FileNode) => ({ ...file, digest: Digest.hash(Buffer.from('another')) })],
    ['missing, and said to be empty', () => ({ digest: Digest.hash(Buffer.from('another')), size: 0n })],
  ])('fails with a blob that is %s', async (_, lie) => {
    const store = memoryStore();
    const file = await putFile(store, 'blob');
    const root = await putDirectory(store, { a: { ...file, ...lie(file) } });
    const dir = tempDir();
    expect(await codeOf(exporting(store, root, dir))).toBe('DATA_LOSS');
    expect(readdirSync(dir)).toEqual([]);
  });

  test('fails with a directory that is missing', async () => {
    const store = memoryStore();
    const gone: Node = { kind: 'directory', digest: Digest.hash(Buffer.from('gone')), size: 0n };
    const root = await putDirectory(store, { a: gone });
    expect(await codeOf(exporting(store, root, tempDir()))).toBe('DATA_LOSS');
    expect(await codeOf(exporting(store, gone, tempDir()))).toBe('DATA_LOSS');
  });

  test('never replaces what has the name', async () => {
    const store = memoryStore();
    const empty = await putDirectory(store, {});
    const dir = tempDir();
    await exporting(store, empty, dir);
    const { ino } = statSync(join(dir, 'name'));
    const folder = ExportFolder.open(dir);
    const place = folder.place();
    await exportTree(empty, place, await ServiceTreeSource.open(store, empty));
    expect(folder.publish(place, 'name')).toBe(false);
    folder.close();
    expect(readdirSync(dir)).toEqual(['name']);
    expect(statSync(join(dir, 'name')).ino).toBe(ino);
  });
});
