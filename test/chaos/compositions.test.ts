import { rmSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import type { FileNode, Node } from '../../src/castore/node.ts';
import { importStorePath } from '../../src/store/moving/import.ts';
import { openStore } from '../../src/store/open/open-store.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import type { Store } from '../../src/store/services.ts';
import { StoreError } from '../../src/util/errors.ts';
import type { Leaf } from '../helpers/compositions.ts';
import { addressOf, anyShape, Composition } from '../helpers/compositions.ts';
import type { Damage } from '../helpers/damage.ts';
import { DAMAGES, damageLeaf } from '../helpers/damage.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

/** `RUNS=500 npx vitest run test/chaos/compositions.test.ts` tries more, `SEED=…` others. */
const RUNS = Number(process.env.RUNS ?? 15);
const SEED = Number(process.env.SEED ?? 16);

const CONTENTS: Readonly<Record<string, Buffer>> = {
  one: randomBytes(700_000, 'composed one'),
  other: randomBytes(700_000, 'composed other'),
  middle: randomBytes(90_000, 'composed middle'),
  small: randomBytes(3000, 'composed small'),
  empty: Buffer.alloc(0),
};
const tree = join(tempDir(), 'tree');
writeTree(
  tree,
  directory({
    ...Object.fromEntries(Object.entries(CONTENTS).map(([name, bytes]) => [name, file(bytes)])),
    sub: directory({ tiny: file('tiny') }),
  }),
);

let running: Composition | undefined;
afterAll(async () => running?.stop());

async function withStore<T>(
  { address, pathInfos = address }: { readonly address: string; readonly pathInfos?: string },
  cacheDir: string,
  work: (store: Store) => Promise<T>,
): Promise<T> {
  const store = await openStore({ blobs: address, directories: address, pathInfos, cacheDir }, 'write');
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

const importTree = (store: Store) => importStorePath(store, Buffer.from(tree), 'tree');

/**
 * Whether a daemon that is asked whether it has something does not see that this is damaged: it would have to read it. Once
 * somebody has read it, it is known; but here a cache before the daemon may have kept everybody from that.
 */
function isUnseen({ leaf, damage }: { readonly leaf: Leaf; readonly damage: Damage }): boolean {
  if (!leaf.isServed || damage === 'missing') return false;
  return leaf.kind === 'objects' || damage === 'swapped lists';
}

/** What reading gives, or `undefined` for an error of ours. */
async function orError<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    expect(error).toBeInstanceOf(StoreError);
    return undefined;
  }
}

async function contentsOf(store: Store, { digest, size }: FileNode, offset: number, isSizeKnown: boolean) {
  const options = isSizeKnown ? { offset, size: Number(size) } : { offset };
  const parts = await store.blobs.read(digest, options);
  if (!parts) throw new StoreError('NOT_FOUND', 'it is not there');
  const bytes: Buffer[] = [];
  for await (const part of parts) bytes.push(Buffer.from(part));
  return Buffer.concat(bytes);
}

/** Reads all files in each way; gives how many times that failed. Fails for wrong or short contents. */
async function failuresOf(store: Store, info: PathInfo, offsets: readonly number[]): Promise<number> {
  const found = await orError(() => store.pathInfos.get(info.storePath.hash));
  if (!found) return 1;
  let failures = 0;
  const root = found.node as Node & { kind: 'directory' };
  const entries = await orError(async () => [...(await store.directories.get(root.digest))!.entries()]);
  if (!entries) return 1;
  const files = entries.flatMap(([name, node]) =>
    node.kind === 'file' ? [{ name: Buffer.from(name).toString(), node }] : [],
  );
  expect(files.map(({ name }) => name)).toEqual(Object.keys(CONTENTS).sort());
  await Promise.all(
    files.flatMap(({ name, node }) =>
      offsets.flatMap((offset) =>
        [true, false].map(async (isSizeKnown) => {
          const right = CONTENTS[name]!.subarray(offset);
          const read = await orError(() => contentsOf(store, node, offset, isSizeKnown));
          if (!read) failures++;
          else expect(read.equals(right), `${name} from ${offset}: ${read.length}`).toBe(true);
        }),
      ),
    ),
  );
  return failures;
}

test(
  'every read of every composition gives the right bytes or an error, and what is acknowledged can be read back',
  async () => {
    const damages = fc.array(
      fc.record({ leaf: fc.nat(), damage: fc.constantFrom<Damage>(...DAMAGES), which: fc.nat(9) }),
      { maxLength: 3 },
    );
    const filled = fc.array(fc.boolean(), { minLength: 8, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(
        anyShape,
        fc.boolean(),
        filled,
        damages,
        async (shape, remembers, isFilled, toDamage) => {
          const dir = tempDir();
          const composition = new Composition(dir, shape, remembers);
          running = composition;
          const at = <T>(work: (store: Store) => Promise<T>) =>
            withStore(composition, composition.newCacheDir(), work);
          // What is in it before, anywhere.
          for (const [i, leaf] of composition.leaves.entries())
            if (isFilled[i])
              await withStore({ address: addressOf(leaf) }, composition.newCacheDir(), importTree);
          await composition.start();
          const info = await at(importTree);
          expect(await at((store) => failuresOf(store, info, [0, 1000]))).toBe(0);
          await composition.emptyCaches();
          await composition.start();
          expect(await at((store) => failuresOf(store, info, [0, 1000]))).toBe(0);
          await composition.stop();

          const { leaves } = composition;
          const damaged = toDamage.map(({ leaf, ...rest }) => ({
            leaf: leaves[leaf % leaves.length]!,
            ...rest,
          }));
          for (const { leaf, damage, which } of damaged) await damageLeaf(leaf, damage, which);
          await composition.start();
          // From the middle on, a list can be told to be wrong by nobody.
          const areListsRight = toDamage.every(({ damage }) => damage !== 'swapped lists');
          const offsets = areListsRight ? [0, 0, 300_000] : [0, 0];
          await at((store) => failuresOf(store, info, offsets));
          await at((store) => failuresOf(store, info, offsets));
          if (!damaged.some(isUnseen)) {
            await at(importTree);
            await composition.emptyCaches();
            await composition.start();
            expect(await at((store) => failuresOf(store, info, [0, 1000]))).toBe(0);
          }
          await composition.stop();
          running = undefined;
          rmSync(dir, { recursive: true, force: true });
        },
      ),
      { numRuns: RUNS, seed: SEED, endOnFailure: true },
    );
  },
  RUNS * 60_000,
);
