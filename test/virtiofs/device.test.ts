import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ERRNO } from '../../src/fs/file-system.ts';
import { OP } from '../../src/fuse/opcodes.ts';
import { FOPEN } from '../../src/fuse/protocol.ts';
import { tvixStore } from '../helpers/cli.ts';
import type { FakeGuest } from '../helpers/fake-guest.ts';
import { GUEST_BASE, MARGIN, MEMORY_LENGTH, USER_BASE } from '../helpers/fake-guest.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, symlink, writeTree } from '../helpers/trees.ts';
import { longs, words } from '../helpers/vhost-front-end.ts';
import { hashOf, TestVirtiofs } from '../helpers/virtiofs.ts';

const LARGE = Buffer.from(randomBytes(3_000_000, 7));
const SUM = createHash('sha256').update(LARGE).digest('hex');
const store = `local://${join(tempDir(), 'store')}`;
let name: string;
let server: TestVirtiofs;

beforeAll(async () => {
  const tree = join(tempDir(), 'tree');
  const many = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`f${i}`, file(`contents of ${i}`)]));
  writeTree(tree, directory({ large: file(LARGE), link: symlink('large'), many: directory(many) }));
  const imported = await tvixStore(['import', '--store', store, tree]);
  name = imported.stdout.trim().slice('/nix/store/'.length);
  server = await TestVirtiofs.start(['--store', store, '--json']);
});

afterAll(() => server.stop());

const listArguments = (offset: number) => Buffer.concat([longs(0, offset), words(8192, 0, 0, 0, 0, 0)]);

describe('a guest', () => {
  test('finds a file and reads it, with chains in tables of their own and in the ring', async () => {
    await server.mounted(async (guest) => {
      const node = await guest.lookUp(name, 'large');
      expect(await hashOf(guest, node)).toBe(SUM);
      expect(await hashOf(guest, node, { indirect: false })).toBe(SUM);
      expect(guest.isContained()).toBe(true);
    });
  });

  test('uses several queues at once', async () => {
    await server.mounted(async (guest) => {
      const node = await guest.lookUp(name, 'large');
      const queues = [1, 2, 1, 2, 1, 2];
      expect(await Promise.all(queues.map((queue) => hashOf(guest, node, { queue })))).toEqual(
        queues.map(() => SUM),
      );
    });
  });

  test('gives nodes back through the queue for what is urgent, without an answer', async () => {
    await server.mounted(async (guest) => {
      const node = await guest.lookUp(name, 'link');
      expect(await guest.ask(OP.FORGET, node, longs(1), -1, { queue: 0 })).toMatchObject({ length: 0 });
      expect((await guest.ask(OP.GETATTR, node, longs(0, 0), 104)).error).toBe(-ERRNO.ENOENT);
    });
  });

  test('is told that nothing can be changed', async () => {
    await server.mounted(async (guest) => {
      for (const opcode of [4, 9, 10, 12, 16, 35]) {
        expect((await guest.ask(opcode, 1, Buffer.alloc(40), 128)).error).toBe(-ERRNO.EROFS);
      }
    });
  });

  test('need not be told again that it can do without opening', async () => {
    await server.mounted(async (guest) => {
      for (const opcode of [OP.OPEN, OP.OPENDIR, OP.FLUSH, OP.ACCESS, OP.GETXATTR]) {
        expect((await guest.ask(opcode, 1, Buffer.alloc(16), 16)).error).toBe(-ERRNO.ENOSYS);
      }
    });
  });

  test('that mounts again without a reset begins anew', async () => {
    await server.mounted(async (guest) => {
      const node = await guest.lookUp(name, 'large');
      expect((await guest.ask(OP.DESTROY, 0, Buffer.alloc(0), 0)).error).toBe(0);
      expect((await guest.ask(OP.GETATTR, node, longs(0, 0), 104)).error).toBe(-ERRNO.ENOENT);
      await guest.init();
      expect(await hashOf(guest, await guest.lookUp(name, 'large'))).toBe(SUM);
    });
  });

  test('that restarts begins anew, as often as it likes', async () => {
    await server.guest(async (guest) => {
      for (let boot = 0; boot < 5; boot++) {
        await guest.init();
        expect(await hashOf(guest, await guest.lookUp(name, 'large'))).toBe(SUM);
        await guest.reset();
      }
      await guest.init();
      expect((await guest.ask(OP.GETATTR, 3, longs(0, 0), 104)).error).toBe(-ERRNO.ENOENT);
    });
  });

  test('that is paused goes on where it was', async () => {
    await server.mounted(async (guest) => {
      const node = await guest.lookUp(name, 'large');
      for (let pause = 0; pause < 3; pause++) {
        const stood = [await guest.stopQueue(0), await guest.stopQueue(1), await guest.stopQueue(2)];
        expect(stood).toEqual(guest.queues.map(({ nextAvailable }) => nextAvailable));
        for (const [queue, at] of stood.entries()) guest.startQueue(queue, at);
        expect(await hashOf(guest, node, { queue: 1 + (pause % 2) })).toBe(SUM);
      }
    });
  });

  test('has what it asks while its queue is not enabled answered when it is', async () => {
    await server.mounted(async (guest) => {
      const enable = (on: number) => guest.frontEnd.send(18, words(1, on));
      enable(0);
      const found = guest.lookUp(name, 'large');
      enable(1);
      expect(await found).toBeGreaterThan(1);
    });
  });
});

describe('the memory of a guest', () => {
  const half = MEMORY_LENGTH / 2;
  const low = (guest: FakeGuest) => guest.region({ length: half });
  const high = (guest: FakeGuest) =>
    guest.region({
      guest: GUEST_BASE + half,
      user: USER_BASE + half,
      offset: MARGIN + half,
      length: half,
    });

  test('is changed while it is used', async () => {
    await server.mounted(async (guest) => {
      const node = await guest.lookUp(name, 'large');
      let done = false;
      const reading = Promise.all([1, 2].map((queue) => hashOf(guest, node, { queue }))).finally(() => {
        done = true;
      });
      for (let change = 0; !done; change++) {
        await (change % 2 === 0 ? guest.setMemory(low(guest), high(guest)) : guest.setMemory());
      }
      expect(await reading).toEqual([SUM, SUM]);
      expect(guest.isContained()).toBe(true);
    });
  });

  test('can lie in regions that border on each other, and be added to and taken from', async () => {
    await server.mounted(async (guest) => {
      await guest.setMemory(low(guest));
      await guest.addMemory(high(guest));
      expect(await hashOf(guest, await guest.lookUp(name, 'large'))).toBe(SUM);
      await guest.removeMemory(high(guest));
      expect((await guest.ask(OP.GETATTR, 1, longs(0, 0), 104)).error).toBe(0);
      await guest.addMemory(high(guest));
      expect(await hashOf(guest, await guest.lookUp(name, 'large'))).toBe(SUM);
      expect(guest.isContained()).toBe(true);
    });
  });
});

describe('the root', () => {
  test('is not listed unless that is wanted', async () => {
    await server.mounted(async (guest) => {
      expect((await guest.ask(OP.READDIRPLUS, 1, listArguments(0), 8192)).error).toBe(-ERRNO.EPERM);
    });
  });

  test('when listed is never kept by the guest, and every other directory is', async () => {
    const listed = await TestVirtiofs.start(['--store', store, '--list-root']);
    await listed.mounted(async (guest) => {
      const openFlags = async (node: number) => {
        const { error, body } = await guest.ask(OP.OPENDIR, node, words(0, 0), 16);
        expect(error).toBe(0);
        return body.readUInt32LE(8);
      };
      expect(await openFlags(1)).toBe(0);
      expect(await openFlags(await guest.lookUp(name, 'many'))).toBe(FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR);
      const { body } = await guest.ask(OP.READDIRPLUS, 1, listArguments(0), 8192);
      expect(body.includes(name)).toBe(true);
    });
    await listed.stop();
  });
});

test('guests that come and go leave nothing behind', async () => {
  const visit = () => server.mounted(async (guest) => hashOf(guest, await guest.lookUp(name, 'large')));
  await visit();
  await expect.poll(() => server.holdings().mappings).toBe(0);
  const before = server.holdings();
  for (let i = 0; i < 10; i++) expect(await visit()).toBe(SUM);
  // Only one guest is served at a time: this one has come when all before it have gone.
  await server.guest(async (guest) => {
    for (let i = 0; i < 20; i++) {
      await guest.setMemory();
      await guest.reset();
    }
    expect(server.holdings().mappings).toBe(1);
  });
  await server.guest(async (guest) => {
    guest.disconnect = () => guest.frontEnd.close();
    await guest.init();
  });
  await expect.poll(() => server.holdings()).toEqual(before);
});
