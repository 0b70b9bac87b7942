import fc from 'fast-check';
import { expect, test } from 'vitest';
import { outputsOf } from '../../src/nix/derivation.ts';
import { Frames, WireReader } from '../../src/nix/worker/reader.ts';
import { WireWriter } from '../../src/nix/worker/writer.ts';
import { forAllAsync } from '../helpers/arbitraries.ts';

/** Bytes as they might come from a socket: cut anywhere. */
async function* cut(bytes: Buffer, lengths: readonly number[]): AsyncGenerator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length]!;
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

const reader = (bytes: Buffer, lengths = [bytes.length + 1]) => new WireReader(cut(bytes, lengths));
const lengths = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 5 });

test('what is written is read, however it is cut', async () => {
  const values = fc.array(fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.string({ unit: 'grapheme' })), {
    maxLength: 20,
  });
  await forAllAsync(fc.tuple(values, lengths), async ([sent, pieces]) => {
    const to = new WireWriter();
    for (const value of sent) typeof value === 'bigint' ? to.number(value) : to.text(value);
    const from = reader(to.take(), pieces);
    for (const value of sent)
      expect(typeof value === 'bigint' ? await from.number() : await from.text()).toBe(value);
    expect(await from.isAtEnd()).toBe(true);
  });
});

test('frames are one stream, and what stands behind them is left', async () => {
  const parts = fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 6 });
  await forAllAsync(fc.tuple(parts, lengths, fc.boolean()), async ([frames, pieces, isRead]) => {
    const to = new WireWriter();
    const sent = frames.flatMap((frame) => [to.number(frame.length).take(), Buffer.from(frame)]);
    const from = reader(Buffer.concat([...sent, to.number(0).number(7).take()]), pieces);
    const contents = new Frames(from);
    const got: Uint8Array[] = [];
    if (isRead)
      for (let part = await contents.next(); !part.done; part = await contents.next()) got.push(part.value);
    await contents.skip();
    if (isRead) expect(Buffer.concat(got).equals(Buffer.concat(frames))).toBe(true);
    expect(await from.number()).toBe(7n);
  });
});

test('noise is refused, and nothing is allocated for what it promises', async () => {
  await forAllAsync(fc.tuple(fc.uint8Array({ maxLength: 200 }), lengths), async ([noise, pieces]) => {
    const from = reader(Buffer.from(noise), pieces);
    await from.texts().catch((error) => expect(error.name).toBe('StoreError'));
  });
  const huge = new WireWriter().number(2n ** 63n).take();
  await expect(reader(huge).text()).rejects.toThrow('no more than 1048576 is possible');
  await expect(reader(huge).texts()).rejects.toThrow('no more than 1048576 is possible');
  const padded = new WireWriter().text('a').take().fill(1, 15);
  await expect(reader(padded).text()).rejects.toThrow('padding');
  const many = new WireWriter().number(1 << 20).take();
  const large = new WireWriter().text('x'.repeat(1 << 20)).take();
  const flood = async function* () {
    yield many;
    for (;;) yield large;
  };
  await expect(new WireReader(flood()).texts()).rejects.toThrow('too large');
});

test('the outputs of a derivation are read, and noise is refused', () => {
  const path = '/nix/store/66120w4fki3x3ps0dgwr3m5sgd2ys5l4-dep';
  const rest = '[],[],"x86_64-linux","/bin/sh",["-c"],[("out","x")])';
  expect(outputsOf(`Derive([("dev","","r:sha256",""),("out","${path}","","")],${rest}`)).toMatchObject([
    { name: 'dev', path: undefined },
    { name: 'out', path: { name: 'dep' } },
  ]);
  expect(outputsOf(`DrvWithVersion("xp-dyn-drv",[("out","${path}","","")],${rest}`)).toHaveLength(1);
  for (const text of ['', 'Derive(', 'Derive([("out","/tmp/x","","")],', 'Derive([("out",""', 'Derive([]']) {
    expect(() => outputsOf(text), text).toThrow();
  }
});
