import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Directory } from '../../src/castore/directory.ts';
import { parseName, parseSymlinkTarget } from '../../src/castore/node.ts';
import { DirectoryStream } from '../../src/mount/fetch/directory-stream.ts';

const COUNT = 20_000;
const never = new AbortController().signal;

/** A directory with many others in it, no two alike. */
const target = parseSymlinkTarget(Buffer.from('x'));
const children = Array.from({ length: COUNT }, (_, i) =>
  Directory.of([[parseName(Buffer.from(`link-${i}`)), { kind: 'symlink', target }]]),
);
const root = Directory.of(
  children.map(({ digest, size }, i) => [
    parseName(Buffer.from(`child-${i}`)),
    { kind: 'directory', digest, size },
  ]),
);

/** A stream of all of it, and what has become of it. */
function started() {
  const seen = { brought: 0, taken: 0, isOver: false };
  const stream = new DirectoryStream(
    root.digest,
    async function* () {
      try {
        for (const directory of [root, ...children]) {
          seen.brought++;
          yield directory;
          if (seen.brought % 100 === 0) await delay(0);
        }
      } finally {
        seen.isOver = true;
      }
    },
    () => seen.taken++,
    () => {},
  );
  return { stream, seen };
}

/** Resolves when nothing moves any more. */
async function still(seen: { brought: number }): Promise<void> {
  for (let before = -1; before !== seen.brought; await delay(100)) before = seen.brought;
}

test('a stream of directories stands still when it is far enough ahead, and goes on for whoever waits', async () => {
  const { stream, seen } = started();
  await stream.reach(root.digest, never);
  await still(seen);
  const first = seen.brought;
  expect(first).toBeGreaterThan(1000);
  expect(first).toBeLessThan(COUNT / 2);
  expect(seen.taken).toBe(first);

  await stream.reach(children[first + 10]!.digest, never);
  await still(seen);
  expect(seen.brought).toBeGreaterThan(first + 1000);
  expect(seen.brought).toBeLessThan(COUNT);

  await stream.reach(children.at(-1)!.digest, never);
  await stream.ended;
  expect(seen.brought).toBe(COUNT + 1);
});

test('a stream of directories of which nobody wants more is given up', async () => {
  const { stream, seen } = started();
  const leaving = new AbortController();
  const reader = stream.reach(root.digest, leaving.signal);
  leaving.abort();
  await expect(reader).rejects.toThrow();
  await stream.ended;
  expect(seen.isOver).toBe(true);
  expect(seen.brought).toBeLessThan(COUNT / 2);
  // Whoever comes now begins another.
  expect(stream.brings(children.at(-1)!.digest)).toBe(false);
});
