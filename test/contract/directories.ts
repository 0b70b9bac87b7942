import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import type { DirectoryService } from '../../src/castore/directory/service.ts';
import { Directory } from '../../src/castore/directory.ts';
import type { Node } from '../../src/castore/node.ts';
import { parseName, parseSymlinkTarget } from '../../src/castore/node.ts';
import { toHex } from '../../src/util/bytes.ts';
import { all, codeOf } from '../helpers/services.ts';

/** A directory of these children; links make it one of its own. */
export function directoryOf(children: Record<string, Directory | string>, sizeOff = 0n): Directory {
  return Directory.of(
    Object.entries(children).map(([name, child]) => {
      const node: Node =
        typeof child === 'string'
          ? { kind: 'symlink', target: parseSymlinkTarget(Buffer.from(child)) }
          : { kind: 'directory', digest: child.digest, size: child.size + sizeOff };
      return [parseName(Buffer.from(name)), node] as const;
    }),
  );
}

export const EMPTY = directoryOf({});

/**
 * What every directory service does. `behind` is for a service that takes only whole closures: what it
 * stands for, which takes a directory alone.
 */
export function directoryServiceContract(
  open: () => Promise<{
    directories: DirectoryService;
    behind?: DirectoryService;
    close: () => Promise<void>;
  }>,
): void {
  describe('as a directory service', () => {
    let directories: DirectoryService;
    let behind: DirectoryService;
    let close: () => Promise<void>;

    beforeAll(async () => {
      const opened = await open();
      ({ directories, behind = directories, close } = opened);
    });
    afterAll(() => close());

    const putAll = async (...list: Directory[]) => {
      const putter = directories.putMany();
      for (const directory of list) await putter.add(directory);
      const root = await putter.close();
      await directories.flush();
      return root.hex;
    };

    test('knows nothing of a directory that was never put', async () => {
      const digest = Digest.hash(Buffer.from('never put'));
      expect(await directories.get(digest)).toBeUndefined();
      expect(await all(directories.getRecursive(digest))).toEqual([]);
    });

    test('gives back a directory', async () => {
      const directory = directoryOf({ link: 'somewhere', other: 'else' });
      await directories.put(directory);
      await directories.flush();
      const found = await directories.get(directory.digest);
      expect(toHex(found!.bytes)).toBe(toHex(directory.bytes));
    });

    test('gives back the empty directory', async () => {
      await putAll(EMPTY);
      expect((await directories.get(EMPTY.digest))?.length).toBe(0);
    });

    test('gives a closure from its root, breadth first, each directory once', async () => {
      const leaf = directoryOf({ leaf: 'x' });
      const left = directoryOf({ a: leaf, b: leaf, l: '1' });
      const right = directoryOf({ c: leaf, r: '2' });
      const root = directoryOf({ left, right, top: leaf });
      expect(await putAll(leaf, left, right, root)).toBe(root.digest.hex);
      const closure = await all(directories.getRecursive(root.digest));
      expect(closure.map(({ digest }) => digest.hex)).toEqual(
        [root, left, right, leaf].map(({ digest }) => digest.hex),
      );
    });

    test('takes the same directory twice in a closure', async () => {
      const leaf = directoryOf({ twice: 'x' });
      const root = directoryOf({ leaf });
      expect(await putAll(leaf, leaf, root, root)).toBe(root.digest.hex);
    });

    test('takes either counting of sizes, and no other', async () => {
      const leaf = directoryOf({ one: 'x', two: 'y' });
      expect(leaf.size).toBe(4n);
      const documented = directoryOf({ leaf }, -2n);
      expect(await putAll(leaf, documented)).toBe(documented.digest.hex);
      for (const off of [-4n, -3n, -1n, 1n, 42n]) {
        expect(await codeOf(putAll(leaf, directoryOf({ leaf }, off)))).toBe('INVALID_ARGUMENT');
      }
    });

    test('refuses a directory that refers to one not sent before it, even if that is stored', async () => {
      const leaf = directoryOf({ stored: 'x' });
      await putAll(leaf);
      expect(await codeOf(putAll(directoryOf({ leaf })))).toBe('INVALID_ARGUMENT');
    });

    test('refuses a closure with two roots, and an empty one', async () => {
      const leaf = directoryOf({ roots: 'x' });
      const others = [directoryOf({ leaf, a: '1' }), directoryOf({ leaf, b: '2' })];
      expect(await codeOf(putAll(leaf, ...others))).toBe('INVALID_ARGUMENT');
      expect(await codeOf(putAll())).toBe('INVALID_ARGUMENT');
    });

    test('does nothing for a signal that has fired', async () => {
      const reason = new Error('no longer wanted');
      const signal = AbortSignal.abort(reason);
      const directory = directoryOf({ fired: 'x' });
      await putAll(directory);
      await expect(directories.get(directory.digest, signal)).rejects.toBe(reason);
      await expect(all(directories.getRecursive(directory.digest, signal))).rejects.toBe(reason);
    });

    test('says DATA_LOSS for a closure that lacks a directory', async () => {
      const missing = directoryOf({ missing: 'x' });
      const root = directoryOf({ missing });
      await behind.put(root);
      await behind.flush();
      expect(await codeOf(all(directories.getRecursive(root.digest)))).toBe('DATA_LOSS');
    });
  });
}
