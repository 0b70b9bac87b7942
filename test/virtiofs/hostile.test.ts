import { closeSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OP } from '../../src/fuse/opcodes.ts';
import { DESCRIPTOR, REQUEST } from '../../src/fuse/vhost/protocol.ts';
import { forAllAsync } from '../helpers/arbitraries.ts';
import { tvixStore } from '../helpers/cli.ts';
import type { Descriptor } from '../helpers/fake-guest.ts';
import { FakeGuest, GUEST_BASE, MEMORY_LENGTH, RING_LENGTH, USER_BASE } from '../helpers/fake-guest.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';
import { longs, memoryFile, VhostFrontEnd, words } from '../helpers/vhost-front-end.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

const { NEXT, WRITE, INDIRECT } = DESCRIPTOR;
/** Where requests of these tests lie in the guest's memory. */
const AT = 1 << 20;
const ROOM = AT + 65536;
const store = `local://${join(tempDir(), 'store')}`;
let name: string;
let server: TestVirtiofs;

beforeAll(async () => {
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ file: file('contents') }));
  name = (await tvixStore(['import', '--store', store, tree])).stdout.trim().slice('/nix/store/'.length);
  server = await TestVirtiofs.start(['--store', store, '--list-root', '--show-xattr']);
});

afterAll(async () => {
  const { status } = await server.stop();
  expect(status).toBe(0);
});

/** Whether everything works as it should, after the guest has started anew. */
async function worksAgain(guest: FakeGuest): Promise<void> {
  await guest.reset();
  guest.hasFailed();
  await guest.init();
  const { error, body } = await guest.read(await guest.lookUp(name, 'file'), 0, 100);
  expect(error).toBe(0);
  expect(body.toString()).toBe('contents');
  expect(guest.isContained()).toBe(true);
}

/** Resolves when the device has failed, or everything that was asked has been answered. */
async function outcome(guest: FakeGuest, expected: number): Promise<'failed' | 'answered'> {
  let answers = 0;
  for (;;) {
    answers += guest.collect(1).length;
    if (guest.hasFailed()) return 'failed';
    if (answers >= expected) return 'answered';
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Writes a request into the guest's memory; gives its length. */
function writeRequest(
  guest: FakeGuest,
  opcode: number,
  node: number,
  args = Buffer.alloc(0),
  length?: number,
): number {
  const header = Buffer.concat([words(length ?? 40 + args.length, opcode), longs(2, node), Buffer.alloc(16)]);
  return Buffer.concat([header, args]).copy(guest.memory, AT);
}

const request = (length = 40, flags: number = NEXT, next = 1): Descriptor => ({
  address: GUEST_BASE + AT,
  length,
  flags,
  next,
});
const room = (length = 104 + 16, flags: number = WRITE, next = 2): Descriptor => ({
  address: GUEST_BASE + ROOM,
  length,
  flags,
  next,
});

describe('a chain of descriptors ends the device, and no more than that, when', () => {
  const end = GUEST_BASE + MEMORY_LENGTH;
  test.each<[string, Descriptor[]]>([
    ['it leads back to itself', [request(40, NEXT, 0)]],
    [
      'it goes in a circle of things to write',
      [request(), room(16, WRITE | NEXT, 2), room(16, WRITE | NEXT, 1)],
    ],
    ['it has empty descriptors without end', [request(), room(0, WRITE | NEXT, 1)]],
    ['the next descriptor is not one of the ring', [request(40, NEXT, RING_LENGTH)]],
    ['it points before the memory', [{ ...request(), address: GUEST_BASE - 1 }, room()]],
    ['it points behind the memory', [{ ...request(), address: end }, room()]],
    ['it crosses the end of the memory', [{ ...request(), address: end - 39 }, room()]],
    ['it points to the end of all addresses', [{ ...request(), address: 0xffff_ffff_ffff_fff0n }, room()]],
    ['room for the answer crosses the end', [request(), { ...room(4096), address: end - 4095 }]],
    ['room for the answer is outside', [request(), { ...room(), address: 0x1000 }]],
    ['it is longer than any memory', [request(), room(0xffff_ffff)]],
    ['there is too much to read', [request(0x10_0000)]],
    [
      'something is to be read after something to write',
      [request(), room(16, WRITE | NEXT, 2), request(40, 0)],
    ],
    ['the header lies about the length', [request(41), room()]],
    ['it is too short to have a header', [request(39), room()]],
    ['it is empty', [request(0, 0)]],
    ['it has only room', [room(120, WRITE)]],
    ['there is no room for an answer', [request(40, 0)]],
    ['there is too little room for an answer', [request(), room(119)]],
    ['a table of descriptors is empty', [request(0, INDIRECT)]],
    ['a table of descriptors is cut off', [request(24, INDIRECT)]],
    ['a table of descriptors is outside', [{ ...request(32, INDIRECT), address: end }]],
    ['a table of descriptors is endless', [request(0xffff_fff0, INDIRECT)]],
    ['a table of descriptors has another after it', [request(32, INDIRECT | NEXT)]],
  ])('%s', async (_, chain) => {
    await server.guest(async (guest) => {
      await guest.init();
      writeRequest(guest, OP.GETATTR, 1);
      for (const [i, descriptor] of chain.entries()) guest.writeDescriptor(1, i, descriptor);
      guest.submit(1, [0]);
      expect(await outcome(guest, 1)).toBe('failed');
      await worksAgain(guest);
    });
  });

  test('a table stands within a table', async () => {
    await server.guest(async (guest) => {
      guest.writeDescriptorAt(AT, request(32, INDIRECT));
      guest.writeDescriptor(1, 0, request(32, INDIRECT));
      guest.submit(1, [0]);
      expect(await outcome(guest, 1)).toBe('failed');
      await worksAgain(guest);
    });
  });

  test.each([
    ['a head is not in the ring', [RING_LENGTH], 1],
    ['the ring claims more requests than it has entries', [0], RING_LENGTH + 1],
    ['the ring goes back', [0], 0xffff],
  ])('%s', async (_, heads, claimed) => {
    await server.guest(async (guest) => {
      guest.submit(1, heads, claimed);
      expect(await outcome(guest, 1)).toBe('failed');
      await worksAgain(guest);
    });
  });

  test.each([
    ['outside of the memory', USER_BASE + MEMORY_LENGTH - 4096],
    ['nowhere', 0],
    ['not aligned', USER_BASE + 65536 + 1],
  ])('a ring is %s', async (_, address) => {
    await server.guest(async (guest) => {
      guest.placeQueue(1, address);
      expect(await outcome(guest, 1)).toBe('failed');
      await worksAgain(guest);
    });
  });
});

describe('whatever a guest', () => {
  const addresses = fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min: 0, max: 8192 }).map((at) => BigInt(GUEST_BASE + AT + at)) },
    fc.integer({ min: -4096, max: 4096 }).map((at) => BigInt(GUEST_BASE + MEMORY_LENGTH + at)),
    fc.integer({ min: 0, max: 3 * 65536 }).map((at) => BigInt(GUEST_BASE + at)),
    fc.bigInt(0n, (1n << 64n) - 1n),
  );
  const descriptors: fc.Arbitrary<Descriptor> = fc.record({
    address: addresses,
    length: fc.oneof(fc.integer({ min: 0, max: 200 }), fc.constantFrom(40, 120, 4096), fc.nat(0xffff_ffff)),
    flags: fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 0, max: 7 }) }, fc.nat(0xffff)),
    next: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 7 }) }, fc.nat(0xffff)),
  });

  test('puts into its rings, nothing else is touched and others are served', async () => {
    const inputs = fc.record({
      table: fc.array(descriptors, { minLength: 1, maxLength: 8 }),
      outside: fc.array(descriptors, { maxLength: 8 }),
      opcode: fc.constantFrom(...Object.values(OP)),
      heads: fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 1, maxLength: 5 }),
    });
    await server.guest(async (guest) => {
      await forAllAsync(
        inputs,
        async ({ table, outside, opcode, heads }) => {
          for (const [i, descriptor] of table.entries()) guest.writeDescriptor(1, i, descriptor);
          for (const [i, descriptor] of outside.entries())
            guest.writeDescriptorAt(AT + 256 + 16 * i, descriptor);
          writeRequest(guest, opcode, 1);
          guest.submit(1, heads);
          await outcome(guest, heads.length);
          await worksAgain(guest);
        },
        150,
      );
    });
  });

  test('asks in well-formed chains, it gets an answer and others are served', async () => {
    const numbers = fc.oneof(fc.nat(200), fc.nat(0xffff_ffff), fc.bigInt(0n, (1n << 64n) - 1n));
    const inputs = fc.record({
      opcode: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...Object.values(OP)) }, fc.nat(0xffff)),
      node: fc.oneof({ weight: 5, arbitrary: fc.nat(6) }, numbers),
      args: fc
        .tuple(fc.array(numbers, { maxLength: 6 }), fc.uint8Array({ maxLength: 300 }))
        .map(([longer, rest]) => Buffer.concat([longs(...longer), rest])),
    });
    await server.guest(async (guest) => {
      await forAllAsync(
        inputs,
        async ({ opcode, node, args }) => {
          const length = writeRequest(guest, opcode, Number(BigInt.asUintN(53, BigInt(node))), args);
          guest.writeDescriptor(1, 0, request(length));
          guest.writeDescriptor(1, 1, room(16 + (1 << 20)));
          guest.submit(1, [0]);
          expect(await outcome(guest, 1)).toBe('answered');
        },
        500,
      );
      await worksAgain(guest);
    });
  });
});

describe('a front end that', () => {
  const table = (...regions: Buffer[]) => Buffer.concat([words(regions.length, 0), ...regions]);
  const huge = Buffer.concat([words(REQUEST.SET_OWNER, 1, 1 << 20)]);
  test.each<[string, (guest: FakeGuest, file: number) => void]>([
    ['sends an unknown message', (guest) => guest.frontEnd.send(99, longs(0))],
    ['sends a message of another version', (guest) => guest.frontEnd.send(3, undefined, [], 2)],
    ['sends a message that is too long', (guest) => guest.frontEnd.sendRaw(huge)],
    ['sends a message that is too short', (guest) => guest.frontEnd.send(REQUEST.SET_VRING_ADDR, words(1))],
    ['names a queue that is not there', (guest) => guest.frontEnd.send(REQUEST.SET_VRING_NUM, words(99, 64))],
    ['wants a ring of no length', (guest) => guest.frontEnd.send(REQUEST.SET_VRING_NUM, words(1, 0))],
    ['wants a ring of an odd length', (guest) => guest.frontEnd.send(REQUEST.SET_VRING_NUM, words(1, 63))],
    [
      'wants features that are not there',
      (guest) => guest.frontEnd.send(REQUEST.SET_FEATURES, longs(1n << 34n)),
    ],
    ['forgets an eventfd', (guest) => guest.frontEnd.send(REQUEST.SET_VRING_KICK, longs(1))],
    [
      'forgets the files of its memory',
      (guest) => guest.frontEnd.send(REQUEST.SET_MEM_TABLE, table(guest.region())),
    ],
    [
      'shows memory that overlaps',
      (guest, fd) =>
        guest.frontEnd.send(REQUEST.SET_MEM_TABLE, table(guest.region(), guest.region({ user: 0 })), [
          fd,
          fd,
        ]),
    ],
    [
      'shows more memory than there is',
      (guest, fd) =>
        guest.frontEnd.send(REQUEST.SET_MEM_TABLE, table(guest.region({ length: 2 ** 40 })), [fd]),
    ],
    [
      'shows memory at the end of all addresses',
      (guest, fd) =>
        guest.frontEnd.send(REQUEST.SET_MEM_TABLE, table(longs(0xffff_ffff_ffff_f000n, 4096, USER_BASE, 0)), [
          fd,
        ]),
    ],
    [
      'takes memory away that is not there',
      (guest) =>
        guest.frontEnd.send(REQUEST.REM_MEM_REG, Buffer.concat([longs(0), guest.region({ user: 4096 })])),
    ],
  ])('%s is cut off, and the next is served', async (_, misbehave) => {
    const guest = await FakeGuest.connect(server.socket);
    await guest.init();
    const fd = memoryFile(MEMORY_LENGTH);
    misbehave(guest, fd);
    await guest.frontEnd.ended();
    closeSync(fd);
    guest.disconnect();
    await server.mounted(worksAgain);
  });

  test('sends any bytes is cut off or understood, and the next is served', async () => {
    await forAllAsync(
      fc.array(
        fc.tuple(
          fc.nat(40),
          fc.constantFrom(1, 1, 1, 9, 0),
          fc.array(fc.nat(0xffff_ffff), { maxLength: 12 }),
        ),
        { minLength: 1, maxLength: 10 },
      ),
      async (messages) => {
        const frontEnd = new VhostFrontEnd(server.socket);
        try {
          for (const [type, flags, payload] of messages) frontEnd.send(type, words(...payload), [], flags);
        } catch {
          // Cut off already.
        }
        frontEnd.close();
      },
      100,
    );
    await server.mounted(worksAgain);
  });
});
