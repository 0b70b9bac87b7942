import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { Directory } from '../../src/castore/directory.ts';
import type { Name, Node } from '../../src/castore/node.ts';
import type { Used } from '../../src/store/profile/builder.ts';
import { ProfileBuilder } from '../../src/store/profile/builder.ts';
import { decodeProfiles } from '../../src/store/profile/file.ts';
import { follow } from '../../src/store/profile/follow.ts';
import type { Profile, Step } from '../../src/store/profile/profile.ts';
import { BLOCK, decodeProfile, encodeProfile, MAX_STEPS } from '../../src/store/profile/profile.ts';
import { StoreError } from '../../src/util/errors.ts';
import { digests, forAll, forAllAsync, parsedOrRefused } from '../helpers/arbitraries.ts';
import { all, codeOf } from '../helpers/services.ts';

const numbers = fc.oneof(fc.nat(300), fc.nat(2 ** 32 - 1));
const steps: fc.Arbitrary<Step[]> = fc
  .array(
    fc.record({
      kind: fc.constantFrom('directory' as const, 'file' as const, 'part' as const),
      at: fc.nat(),
      entry: numbers,
      start: numbers,
      count: numbers,
    }),
  )
  .map((raw) => {
    let directories = 1;
    return raw.map(({ kind, at, entry, start, count }): Step => {
      const directory = at % directories;
      if (kind === 'directory') directories++;
      return kind === 'part' ? { kind, directory, entry, start, count } : { kind, directory, entry };
    });
  });
const profiles: fc.Arbitrary<Profile> = fc.record({ root: digests, steps });

/** A tree, its directories by digest, and everything that is in it. */
interface MadeTree {
  readonly root: Digest;
  readonly directories: ReadonlyMap<string, Directory>;
  /** What a reader may do, parents first. */
  readonly uses: readonly Used[];
  readonly digests: ReadonlySet<string>;
}

const trees: fc.Arbitrary<MadeTree> = fc
  .array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 6 }), fc.nat(4 * BLOCK)), {
    minLength: 1,
    maxLength: 12,
  })
  .map((shape) => {
    const directories = new Map<string, Directory>();
    const uses: Used[] = [];
    const found = new Set<string>();
    // From the last to the first: each is in one that comes before it, the first is the root.
    const children = shape.map((): { name: Name; node: Node }[] => []);
    let root: Directory | undefined;
    for (let i = shape.length - 1; i >= 0; i--) {
      const [parent, files, size] = shape[i]!;
      const entries: [Name, Node][] = children[i]!.map(({ name, node }) => [name, node]);
      for (let f = 0; f < files; f++) {
        const digest = Digest.hash(Buffer.from(`${i}/${f}`));
        found.add(digest.hex);
        entries.push([named(`f${f}`), { kind: 'file', digest, size: BigInt(size), executable: false }]);
      }
      const directory = Directory.of(entries);
      directories.set(directory.digest.hex, directory);
      found.add(directory.digest.hex);
      if (i === 0) root = directory;
      else
        children[parent % i]!.push({
          name: named(`d${i}`),
          node: { kind: 'directory', digest: directory.digest, size: directory.size },
        });
    }
    const visit = (directory: Directory) => {
      for (let entry = 0; entry < directory.length; entry++) {
        const node = directory.node(entry);
        if (node.kind === 'directory')
          uses.push({ directory: directory.digest.bytes, entry, what: { child: node.digest.bytes } });
        else if (node.kind === 'file') uses.push({ directory: directory.digest.bytes, entry, what: 'file' });
        if (node.kind === 'directory') visit(directories.get(node.digest.hex)!);
      }
    };
    visit(root!);
    return { root: root!.digest, directories, uses, digests: found };
  });

function named(text: string): Name {
  return Buffer.from(text) as unknown as Name;
}

const followIn = (tree: MadeTree, profile: Profile) =>
  all(follow(profile, async (digest) => tree.directories.get(digest.hex)!));

describe('a profile', () => {
  test('is encoded as its format says', () => {
    const root = Digest.hash(Buffer.from('root'));
    const encoded = encodeProfile({
      root,
      steps: [
        { kind: 'directory', directory: 0, entry: 3 },
        { kind: 'file', directory: 1, entry: 200 },
        { kind: 'part', directory: 0, entry: 1, start: 2, count: 300 },
      ],
    });
    expect(Buffer.from(encoded).toString('hex')).toBe(`01${root.hex}0003${'09c801'}${'060102ac02'}`);
  });

  test('is what it was once it has been encoded and decoded', () => {
    forAll(profiles, (profile) => {
      const again = decodeProfile(encodeProfile(profile));
      expect(again.root.hex).toBe(profile.root.hex);
      expect(again.steps).toEqual(profile.steps);
    });
  });

  test('is refused or bounded, whatever bytes it is read from', () => {
    const bodies = fc.tuple(
      digests,
      fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ minLength: 20_000, maxLength: 30_000 })),
    );
    const encodings = fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      bodies.map(([root, body]) => Buffer.concat([Buffer.of(1), root.bytes, body])),
      fc.tuple(profiles, fc.nat(), fc.nat(255)).map(([profile, at, byte]) => {
        const bytes = Buffer.from(encodeProfile(profile));
        bytes[at % bytes.length] = byte;
        return bytes;
      }),
    );
    forAll(encodings, (bytes) => {
      const profile = parsedOrRefused(() => decodeProfile(bytes));
      if (!profile) return;
      expect(profile.steps.length).toBeLessThanOrEqual(MAX_STEPS);
      expect(decodeProfile(encodeProfile(profile)).steps).toEqual(profile.steps);
    });
  });

  test('names nothing that is not in its tree, whoever made it', async () => {
    await forAllAsync(fc.tuple(trees, steps, fc.nat(3)), async ([tree, made, entries]) => {
      const near = made.map((step) => ({ ...step, entry: step.entry % (entries + 1) }));
      const get = async (digest: Digest) => {
        expect(tree.digests).toContain(digest.hex);
        return tree.directories.get(digest.hex)!;
      };
      try {
        for await (const { node, offset, length } of follow({ root: tree.root, steps: near }, get)) {
          expect(tree.digests).toContain(node.digest.hex);
          if (node.kind === 'file') expect(offset + length).toBeLessThanOrEqual(Number(node.size));
        }
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        expect(error.code).toBe('INVALID_ARGUMENT');
      }
    });
  });

  test('that is made while a tree is used names what was used, in that order', async () => {
    await forAllAsync(fc.tuple(trees, fc.array(fc.nat(100))), async ([tree, repeated]) => {
      const builder = new ProfileBuilder(tree.root);
      for (const use of tree.uses) builder.add(use);
      const first = builder.profile();
      for (const i of repeated) if (tree.uses[i]) builder.add(tree.uses[i]);
      expect(builder.changed).toBe(false);
      const found = (await followIn(tree, first)).map(({ node }) => node.digest.hex);
      const used = tree.uses.map(({ directory, entry }) => {
        const node = tree.directories.get(Buffer.from(directory).toString('hex'))!.node(entry);
        return node.kind === 'symlink' ? '' : node.digest.hex;
      });
      // Of what is there twice, the first place is enough.
      expect(new Set(found)).toEqual(new Set(used));
      expect(found.filter((hex, i) => found.indexOf(hex) === i)).toEqual([...new Set(used)]);
      // And the next time it goes on, whatever is used first then.
      const later = new ProfileBuilder(tree.root, decodeProfile(encodeProfile(first)));
      for (const use of tree.uses) later.add(use);
      expect(later.profile().steps).toEqual(first.steps);
    });
  });

  test('joins the parts of a file that are read one behind the other', () => {
    const root = Digest.hash(Buffer.from('root'));
    const builder = new ProfileBuilder(root);
    const part = (start: number, count: number) =>
      builder.add({ directory: root.bytes, entry: 0, what: { start, count } });
    part(0, 2);
    part(10, 1);
    part(2, 2);
    part(1, 1);
    part(11, 4);
    expect(builder.profile().steps).toEqual([
      { kind: 'part', directory: 0, entry: 0, start: 0, count: 4 },
      { kind: 'part', directory: 0, entry: 0, start: 10, count: 5 },
    ]);
  });

  test('does not grow without end', () => {
    const root = Digest.hash(Buffer.from('root'));
    const builder = new ProfileBuilder(root);
    for (let entry = 0; entry < 2 * MAX_STEPS; entry++)
      builder.add({ directory: root.bytes, entry, what: 'file' });
    for (let start = 0; start < 1000; start++)
      builder.add({ directory: root.bytes, entry: 0, what: { start: 2 * start, count: 1 } });
    const { steps } = decodeProfile(encodeProfile(builder.profile()));
    expect(steps.length).toBe(MAX_STEPS);
  });

  test('a file of them is refused when it is damaged', async () => {
    for (const bytes of [Buffer.from('x'), Buffer.from('tvix-store profiles 1\nabc'), Buffer.alloc(100)])
      expect(await codeOf(() => decodeProfiles(bytes))).toBe('INVALID_ARGUMENT');
    forAll(fc.uint8Array({ maxLength: 100 }), (rest) => {
      parsedOrRefused(() => decodeProfiles(Buffer.concat([Buffer.from('tvix-store profiles 1\n'), rest])));
    });
  });
});
