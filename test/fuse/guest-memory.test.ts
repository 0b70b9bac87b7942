import { closeSync, readSync, writeSync } from 'node:fs';
import * as fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { GuestMemory } from '../../src/fuse/vhost/memory.ts';
import { forAll } from '../helpers/arbitraries.ts';
import { memoryFile } from '../helpers/vhost-front-end.ts';

const GIB = 2 ** 30;
/** A guest of 16 GiB as QEMU has it: 2 GiB below the hole for devices, the rest above 4 GiB. */
const LOW = { guest: 0, length: 2 * GIB, user: 2 ** 46, offset: 0 };
const HIGH = { guest: 4 * GIB, length: 14 * GIB, user: 2 ** 46 + 2 * GIB, offset: 2 * GIB };
const END = HIGH.guest + HIGH.length;

const file = memoryFile(16 * GIB);
const memory = new GuestMemory();
memory.add(LOW, file);
memory.add(HIGH, file);

afterAll(() => {
  memory.clear();
  closeSync(file);
});

/** Where an address of the guest lies in the file. */
const inFile = (guest: number) => (guest < HIGH.guest ? guest : guest - HIGH.guest + HIGH.offset);

const edges = [0, GIB, 2 * GIB, 4 * GIB, 5 * GIB, 8 * GIB, 17 * GIB, END];
const addresses = fc.oneof(
  fc.tuple(fc.constantFrom(...edges), fc.integer({ min: -5000, max: 5000 })).map(([edge, by]) => edge + by),
  fc.integer({ min: 0, max: END }),
);

test('a guest of 16 GiB is read and written wherever it has memory, and nowhere else', () => {
  forAll(fc.tuple(addresses, fc.uint8Array({ minLength: 1, maxLength: 8000 })), ([guest, contents]) => {
    const bytes = Buffer.from(contents);
    const end = guest + bytes.length;
    const isMemory = (guest >= 0 && end <= LOW.length) || (guest >= HIGH.guest && end <= END);
    if (!isMemory) {
      expect(() => memory.check(guest, bytes.length)).toThrow('outside');
      expect(() => memory.read(guest, bytes.length, bytes, 0)).toThrow('outside');
      return;
    }
    const there = Buffer.alloc(bytes.length);
    memory.check(guest, bytes.length);
    memory.write(guest, bytes, 0, bytes.length);
    readSync(file, there, 0, there.length, inFile(guest));
    expect(there.equals(bytes)).toBe(true);
    writeSync(file, there.reverse(), 0, there.length, inFile(guest));
    memory.read(guest, bytes.length, bytes, 0);
    expect(bytes.equals(there)).toBe(true);
  });
});

test('what is not asked to be written stays as it is', () => {
  const at = 5 * GIB - 100;
  writeSync(file, Buffer.alloc(300, 7), 0, 300, inFile(at));
  memory.write(at + 50, Buffer.alloc(400, 8), 100, 200);
  const there = Buffer.alloc(300);
  readSync(file, there, 0, 300, inFile(at));
  expect(there).toEqual(Buffer.concat([Buffer.alloc(50, 7), Buffer.alloc(200, 8), Buffer.alloc(50, 7)]));
});

test('a ring is found by its address in the front end, if all of it is there', () => {
  expect(memory.ring(HIGH.user + 13 * GIB, 4096)?.byteLength).toBe(4096);
  expect(memory.ring(HIGH.user + HIGH.length - 4095, 4096)).toBeUndefined();
  expect(memory.ring(LOW.user - 1, 4096)).toBeUndefined();
});
