import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LocalStore } from '../../../src/castore/local/store.ts';
import { KeptNarInfos } from '../../../src/store/substitute/kept-narinfos.ts';
import { randomBytes } from '../../helpers/random.ts';
import { tempDir } from '../../helpers/temp.ts';

const HOUR = 3_600_000;
const hash = (name: string | number) => randomBytes(20, `hash ${name}`);

let local: LocalStore;
let kept: KeptNarInfos;

beforeEach(() => {
  local = LocalStore.openToFill(tempDir());
  kept = new KeptNarInfos(local, 'nix+https://cache');
  vi.useFakeTimers({ toFake: ['Date'] });
});
afterEach(async () => {
  vi.useRealTimers();
  await local.close();
});

/** Resolves when it is there. */
async function put(name: string | number, narInfo: Uint8Array | undefined): Promise<void> {
  kept.put(hash(name), { narInfo, priority: 40 });
  await vi.waitFor(() => expect(kept.get(hash(name))).toBeDefined(), { timeout: 30_000, interval: 5 });
}

test('an answer is believed for as long as Nix believes it, that there is none for less', async () => {
  const narInfo = randomBytes(500, 'narinfo');
  await put('there', narInfo);
  await put('absent', undefined);
  expect(kept.get(hash('there'))).toEqual({ narInfo, priority: 40 });
  expect(kept.get(hash('absent'))).toEqual({ narInfo: undefined, priority: 40 });
  expect(kept.get(hash('never asked'))).toBeUndefined();
  expect(new KeptNarInfos(local, 'nix+https://other').get(hash('there'))).toBeUndefined();
  vi.setSystemTime(Date.now() + HOUR - 1000);
  expect(kept.get(hash('absent'))).toBeDefined();
  vi.setSystemTime(Date.now() + 2000);
  expect(kept.get(hash('absent'))).toBeUndefined();
  vi.setSystemTime(Date.now() + 29 * 24 * HOUR);
  expect(kept.get(hash('there'))).toBeDefined();
  vi.setSystemTime(Date.now() + 24 * HOUR);
  expect(kept.get(hash('there'))).toBeUndefined();
});

test('an answer from the future, or a damaged one, is none', async () => {
  await put('path', randomBytes(500, 'narinfo'));
  vi.setSystemTime(Date.now() - HOUR);
  expect(kept.get(hash('path'))).toBeUndefined();
  vi.setSystemTime(Date.now() + HOUR);
  const table = local.env.table('narinfo');
  const [row] = table.rows();
  row!.value[20]! ^= 1;
  await table.put(row!.key, row!.value);
  expect(kept.get(hash('path'))).toBeUndefined();
});

test('only so much is kept: the oldest goes, and before that what is not there', async () => {
  const narInfo = randomBytes(60_000, 'narinfo');
  for (let i = 0; i < 600; i++) {
    vi.setSystemTime(Date.now() + 1000);
    kept.put(hash(i), { narInfo, priority: 40 });
    if (i % 50 === 0) await local.env.transactionSoon(() => {});
  }
  kept.put(hash('absent'), { narInfo: undefined, priority: 40 });
  const table = local.env.table('narinfo');
  // One that is under way then misses what came meanwhile.
  const smaller = () => {
    for (let i = 600; i < 900; i++) kept.put(hash(i), { narInfo, priority: 40 });
    local.env.refresh();
    expect(table.count).toBeLessThan(500);
  };
  await vi.waitFor(smaller, { timeout: 60_000, interval: 100 });
  expect(table.pages * 4096).toBeLessThan(36 << 20);
  expect(kept.get(hash(0))).toBeUndefined();
  expect(kept.get(hash('absent'))).toBeUndefined();
});

test('a narinfo that is too long is not kept', async () => {
  kept.put(hash('long'), { narInfo: randomBytes(70_000, 'long'), priority: 40 });
  await put('other', undefined);
  expect(kept.get(hash('long'))).toBeUndefined();
});
