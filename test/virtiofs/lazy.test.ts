import { basename, join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { ERRNO } from '../../src/fs/file-system.ts';
import { OP } from '../../src/fuse/opcodes.ts';
import { FakeGuest } from '../helpers/fake-guest.ts';
import { GatedMount } from '../helpers/gated-mount.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';
import { longs } from '../helpers/vhost-front-end.ts';

const FILES = Array.from({ length: 8 }, (_, i) => `contents of ${i}`);
const tree = join(tempDir(), 'tree');

beforeAll(() => {
  writeTree(tree, directory(Object.fromEntries(FILES.map((contents, i) => [`f${i}`, file(contents)]))));
});

/** Lets a guest mount a store that the test holds. */
async function mounted(
  work: (guest: FakeGuest, store: GatedMount, nodes: number[], socket: string) => Promise<void>,
  options = {},
): Promise<void> {
  const socket = join(tempDir(), 'socket');
  const store = await GatedMount.start({ trees: [tree], socket, ...options });
  const guest = await FakeGuest.connect(socket);
  await guest.init();
  const nodes: number[] = [];
  for (const [i] of FILES.entries()) nodes.push(await guest.lookUp(basename(store.roots[0]!), `f${i}`));
  await work(guest, store, nodes, socket);
  guest.disconnect();
  expect((await store.stop()).status).toBe(0);
}

const text = async (reply: ReturnType<FakeGuest['read']>) => {
  const { error, body } = await reply;
  return error === 0 ? body.toString() : error;
};

test('what waits for a far store does not hold up what does not, in the same queue', async () => {
  await mounted(async (guest, store, nodes) => {
    expect(await text(guest.read(nodes[0]!, 0, 4096))).toBe(FILES[0]);
    await store.gate('blobs', 'held');
    const waiting = nodes.slice(1).map((node) => text(guest.read(node, 0, 4096)));
    await expect.poll(() => store.waiting('blobs')).toBeGreaterThan(0);
    expect(await text(guest.read(nodes[0]!, 0, 4096))).toBe(FILES[0]);
    expect((await guest.ask(OP.GETATTR, 1, longs(0, 0), 104)).error).toBe(0);
    await store.gate('blobs', 'open');
    expect(await Promise.all(waiting)).toEqual(FILES.slice(1));
  });
});

test('a far store that fails gives EIO, and works again afterwards', async () => {
  await mounted(async (guest, store, nodes) => {
    await store.gate('blobs', 'failing');
    expect(await text(guest.read(nodes[1]!, 0, 4096))).toBe(-ERRNO.EIO);
    await store.gate('blobs', 'open');
    expect(await text(guest.read(nodes[1]!, 0, 4096))).toBe(FILES[1]);
  });
});

test('memory that is changed while something is fetched is no hindrance', async () => {
  await mounted(async (guest, store, nodes) => {
    await store.gate('blobs', 'held');
    const waiting = text(guest.read(nodes[2]!, 0, 4096));
    await expect.poll(() => store.waiting('blobs')).toBe(1);
    await guest.setMemory();
    await store.gate('blobs', 'open');
    expect(await waiting).toBe(FILES[2]);
  });
});

test('a guest that is paused gets what it waits for first, if that comes soon', async () => {
  await mounted(async (guest, store, nodes) => {
    await store.gate('blobs', 'held');
    const waiting = text(guest.read(nodes[3]!, 0, 4096));
    await expect.poll(() => store.waiting('blobs')).toBe(1);
    const stopping = guest.stopQueue(1);
    await store.gate('blobs', 'open');
    expect(await waiting).toBe(FILES[3]);
    expect(await stopping).toBe(guest.queues[1]!.nextAvailable);
  });
});

test('a guest that is paused gets EIO for what does not come soon', async () => {
  await mounted(
    async (guest, store, nodes) => {
      await store.gate('blobs', 'silent');
      const waiting = text(guest.read(nodes[4]!, 0, 4096));
      await expect.poll(() => store.waiting('blobs')).toBe(1);
      let stopped = false;
      const stopping = guest.stopQueue(1).finally(() => {
        stopped = true;
      });
      // Another queue that is busy is no reason to wait.
      while (!stopped) await guest.ask(OP.GETATTR, 1, longs(0, 0), 104, { queue: 2 });
      expect(await stopping).toBe(guest.queues[1]!.nextAvailable);
      expect(await waiting).toBe(-ERRNO.EIO);
      guest.startQueue(1);
      expect((await guest.ask(OP.GETATTR, 1, longs(0, 0), 104)).error).toBe(0);
      await store.gate('blobs', 'open');
      expect(await text(guest.read(nodes[4]!, 0, 4096))).toBe(FILES[4]);
    },
    { timeoutMs: 60_000 },
  );
});

test('a guest that goes while it waits is not waited for', async () => {
  await mounted(async (guest, store, nodes, socket) => {
    await store.gate('blobs', 'held');
    guest.read(nodes[6]!, 0, 4096).catch(() => {});
    await expect.poll(() => store.waiting('blobs')).toBe(1);
    guest.frontEnd.close();
    await expect.poll(() => store.waiting('blobs')).toBe(0);
    await store.gate('blobs', 'open');
    const next = await FakeGuest.connect(socket);
    await next.init();
    const node = await next.lookUp(basename(store.roots[0]!), 'f6');
    expect(await text(next.read(node, 0, 4096))).toBe(FILES[6]);
    next.disconnect();
    guest.frontEnd.close = () => {};
  });
});
