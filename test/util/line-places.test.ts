import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { LinePlaces } from '../../src/util/async/line-places.ts';
import { withSigns } from '../../src/util/async/signs.ts';
import { Spool } from '../../src/util/spool.ts';
import { all } from '../helpers/services.ts';

const MIB = 1 << 20;

test('little is sent at once over a line of which nothing is known, one thing at the least', async () => {
  const places = new LinePlaces();
  const gates = Array.from({ length: 40 }, () => Promise.withResolvers<void>());
  let begun = 0;
  const sends = gates.map(({ promise }) =>
    places.run(20_000, () => {
      begun++;
      return promise;
    }),
  );
  expect(begun * 20_000).toBeLessThan(MIB / 2);
  for (const { resolve } of gates) resolve();
  await Promise.all(sends);
  expect(begun).toBe(40);
  expect(await places.run(100 * MIB, async () => 'large')).toBe('large');
});

test('who leaves while waiting, or fails, takes up no room', async () => {
  const places = new LinePlaces();
  const gate = Promise.withResolvers<void>();
  const first = places.run(MIB, () => gate.promise);
  const leave = new AbortController();
  const waiting = places.run(MIB, async () => 'never', leave.signal);
  const behind = places.run(MIB, async () => 'behind');
  leave.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  gate.reject(new Error('failed'));
  await expect(first).rejects.toThrow('failed');
  expect(await behind).toBe('behind');
});

test('a line is no faster because much has landed while little was carried', async () => {
  const places = new LinePlaces();
  await places.run(MIB, () => delay(100));
  const much = places.run(4 * MIB, () => delay(400));
  await delay(390);
  const little = places.run(1000, () => delay(20));
  await Promise.all([much, little]);
  expect(places.limit).toBeLessThan(20 * MIB);
});

test('whoever waits long for the next thing hears of it meanwhile', async () => {
  const more = Promise.withResolvers<void>();
  const source = async function* () {
    yield 1;
    await more.promise;
    yield 2;
  };
  const heard: number[] = [];
  for await (const one of withSigns(source(), 0, 1)) {
    heard.push(one);
    if (heard.length === 4) more.resolve();
  }
  expect(heard.slice(0, 4)).toEqual([1, 0, 0, 0]);
  expect(heard.at(-1)).toBe(2);
  expect(await all(withSigns([1, 2], 0))).toEqual([1, 2]);
});

test('whoever leaves a source that gives nothing does not wait for it', async () => {
  const never = async function* () {
    await new Promise(() => {});
    yield 1;
  };
  for await (const one of withSigns(never(), 0, 1)) {
    expect(one).toBe(0);
    break;
  }
  let left = false;
  const source = async function* () {
    try {
      yield 1;
    } finally {
      await delay(1);
      left = true;
    }
  };
  for await (const _ of withSigns(source(), 0)) break;
  expect(left).toBe(true);
});

test('a spool gives the same again and again, however long it gets', () => {
  const spool = new Spool();
  const parts = Array.from({ length: 50 }, (_, i) => Buffer.alloc(i * 20_000, i));
  for (const part of parts) spool.add(part);
  const same = () => [...spool].every((part, i) => parts[i]!.equals(part));
  expect([same(), same(), [...spool].length]).toEqual([true, true, 50]);
  spool.add(Buffer.from('last'));
  expect([...spool].map(String).at(-1)).toBe('last');
  spool.close();
});
