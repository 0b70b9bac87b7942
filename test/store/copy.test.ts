import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Node } from '../../src/castore/node.ts';
import { closureOf } from '../../src/store/moving/closure.ts';
import { addSignatures, copyPaths, planCopy } from '../../src/store/moving/copy.ts';
import { encodePathInfo } from '../../src/store/path-info/message.ts';
import type { PathDescription } from '../../src/store/path-info/path-info.ts';
import type { Store } from '../../src/store/services.ts';
import { checkComplete, codeOf, localStore, memoryStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, symlink } from '../helpers/trees.ts';

const CA = { type: 'fixed:r:sha256', digest: new Uint8Array(32).fill(3) } as const;
const SIGNATURES = [{ name: 'key-1', data: new Uint8Array(64).fill(7) }];

/** A store with a program, its library, and what that refers to, all with something of their own. */
async function fill(store: Store) {
  const told = (...references: string[]) => ({
    references: references.map(storePathOf),
    signatures: SIGNATURES,
    deriver: storePathOf('deriver'),
  });
  await putStorePath(store, 'data', file('data', true), { ca: CA });
  await putStorePath(store, 'lib', generateTree(150, 1), told('lib', 'data'));
  await putStorePath(store, 'link', symlink('lib'), told('lib'));
  await putStorePath(store, 'empty', directory(), told());
  return putStorePath(store, 'app', generateTree(150, 2), told('lib', 'app', 'link', 'empty'));
}

const KINDS: Record<string, () => Store> = {
  local: () => localStore(join(tempDir(), 'store')),
  memory: memoryStore,
};
const PAIRS = Object.keys(KINDS).flatMap((from) => Object.keys(KINDS).map((to) => [from, to] as const));

describe.each(PAIRS)('a copy from a %s store to a %s one', (fromKind, toKind) => {
  const stores = async () => {
    const from = KINDS[fromKind]!();
    const to = KINDS[toKind]!();
    return { from, to, app: await fill(from) };
  };

  test('brings later signatures, and those of no other contents', async () => {
    const { from, to, app } = await stores();
    await copyPaths(from, to, await planCopy(from.pathInfos, to.pathInfos, [app]));
    expect((await planCopy(from.pathInfos, to.pathInfos, [app])).unsigned).toEqual([]);
    const later = { name: 'key-2', data: new Uint8Array(64).fill(8) };
    const signed = await from.pathInfos.put({ ...app, signatures: [later] });
    const lib = (await from.pathInfos.get(storePathOf('lib').hash))!;
    await from.pathInfos.put({ ...lib, narSize: lib.narSize + 1n, signatures: [later] });
    const plan = await planCopy(from.pathInfos, to.pathInfos, [signed]);
    expect([plan.paths, plan.unsigned.map(({ storePath }) => storePath.name)]).toEqual([[], ['app']]);
    await addSignatures(to, plan);
    const namesOf = async (name: string) =>
      (await to.pathInfos.get(storePathOf(name).hash))!.signatures.map((one) => one.name);
    expect([await namesOf('app'), await namesOf('lib')]).toEqual([['key-1', 'key-2'], ['key-1']]);
  });

  test('takes the closure along, with all that is told of it, references first', async () => {
    const { from, to, app } = await stores();
    const plan = await planCopy(from.pathInfos, to.pathInfos, [app]);
    const copied: string[] = [];
    await copyPaths(from, to, plan, { onCopied: ({ storePath }) => copied.push(storePath.name) });
    expect(copied.sort()).toEqual(['app', 'data', 'empty', 'lib', 'link']);
    for (const name of copied) {
      const there = await to.pathInfos.get(storePathOf(name).hash);
      const here = await from.pathInfos.get(storePathOf(name).hash);
      expect(encodePathInfo(there!)).toEqual(encodePathInfo(here!));
      await checkComplete(to, there!);
    }
    const order = plan.paths.map(({ storePath }) => storePath.name);
    expect(order.at(-1)).toBe('app');
    expect(order.indexOf('data')).toBeLessThan(order.indexOf('lib'));
    expect(order.indexOf('lib')).toBeLessThan(order.indexOf('link'));
    await from.close();
    await to.close();
  });

  test('leaves out what is there', async () => {
    const { from, to, app } = await stores();
    await copyPaths(from, to, await planCopy(from.pathInfos, to.pathInfos, [app]));
    const plan = await planCopy(from.pathInfos, to.pathInfos, [app]);
    expect(plan.paths).toEqual([]);
    expect(plan.present).toHaveLength(5);
    const other = await putStorePath(from, 'other', generateTree(150, 2), {
      references: [storePathOf('app')],
    });
    const progress = { objects: 0, bytes: 0 };
    const next = await planCopy(from.pathInfos, to.pathInfos, [other]);
    expect(next.paths.map(({ storePath }) => storePath.name)).toEqual(['other']);
    await copyPaths(from, to, next, { progress });
    await checkComplete(to, (await to.pathInfos.get(other.storePath.hash))!);
    // Its contents are those of app.
    if (toKind === 'local' && fromKind === 'local') expect(progress.bytes).toBe(0);
    await from.close();
    await to.close();
  });

  test('refuses what refers to something that nobody has, or copies it without', async () => {
    const { from, to } = await stores();
    const broken = await putStorePath(from, 'broken', file(''), {
      references: [storePathOf('gone'), storePathOf('data')],
    });
    expect(await codeOf(planCopy(from.pathInfos, to.pathInfos, [broken]))).toBe('NOT_FOUND');
    await putStorePath(to, 'gone', file('there already'));
    expect((await planCopy(from.pathInfos, to.pathInfos, [broken])).paths).toHaveLength(2);
    const alone = await planCopy(from.pathInfos, to.pathInfos, [broken, broken], { closure: false });
    expect(alone.paths.map(({ storePath }) => storePath.name)).toEqual(['broken']);
    await from.close();
    await to.close();
  });

  test('registers nothing whose contents are not all there', async () => {
    const { from, to } = await stores();
    const torn = await putStorePath(from, 'torn', generateTree(20, 9));
    const gone: Node = { ...(torn.node as Node & { kind: 'directory' }), digest: await digestOf('gone') };
    await from.pathInfos.put({ ...torn, node: gone });
    const user = await putStorePath(from, 'user', file('u'), { references: [torn.storePath] });
    const plan = await planCopy(from.pathInfos, to.pathInfos, [user]);
    expect(await codeOf(copyPaths(from, to, plan))).toBe('DATA_LOSS');
    expect(await to.pathInfos.get(torn.storePath.hash)).toBeUndefined();
    expect(await to.pathInfos.get(user.storePath.hash)).toBeUndefined();
    await from.close();
    await to.close();
  });
});

async function digestOf(text: string) {
  return (await memoryStore().blobs.put(Buffer.from(text))).digest;
}

describe('a closure', () => {
  test('has what is referred to first, each once, whatever refers to what', async () => {
    const graphs = fc.array(fc.array(fc.nat(11), { maxLength: 5 }), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(graphs, async (graph) => {
        const paths = graph.map(
          (references, i): PathDescription => ({
            storePath: storePathOf(`p${i}`),
            // Downwards, so that nothing goes round, or to itself.
            references: references.filter((to) => to <= i).map((to) => storePathOf(`p${to}`)),
            narSize: 1n,
            narSha256: new Uint8Array(32),
            signatures: [],
          }),
        );
        const root = paths.at(-1)!;
        const found = await closureOf([root, root], async ({ name }) => paths[Number(name.slice(1))]);
        const names = found.paths.map(({ storePath }) => storePath.name);
        expect(new Set(names).size).toBe(names.length);
        expect(names.at(-1)).toBe(root.storePath.name);
        for (const [i, { references, storePath }] of found.paths.entries()) {
          for (const { name } of references) {
            if (name !== storePath.name) expect(names.slice(0, i)).toContain(name);
          }
        }
      }),
    );
  });

  test('ends where references go round', async () => {
    const path = (name: string, ...references: string[]): PathDescription => ({
      storePath: storePathOf(name),
      references: references.map(storePathOf),
      narSize: 1n,
      narSha256: new Uint8Array(32),
      signatures: [],
    });
    const all = [path('a', 'b'), path('b', 'c', 'gone'), path('c', 'a')];
    const { paths, missing } = await closureOf([all[0]!], async ({ name }) =>
      all.find(({ storePath }) => storePath.name === name),
    );
    expect(paths.map(({ storePath }) => storePath.name)).toEqual(['c', 'b', 'a']);
    expect(missing.map(({ name }) => name)).toEqual(['gone']);
  });
});
