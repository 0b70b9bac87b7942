import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { BinaryCache } from '../../../src/store/substitute/binary-cache.ts';
import type { CacheFiles } from '../../../src/store/substitute/files.ts';
import { codeOf } from '../../helpers/services.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** What becomes of a narinfo that is no narinfo, of which so many bytes come in parts, one every eight seconds. */
async function outcome(bytes: number, parts: number): Promise<string> {
  const files: CacheFiles = {
    address: 'nix+http://slow',
    async read(path, { signal }) {
      if (!path.endsWith('.narinfo')) return undefined;
      return (async function* () {
        for (let i = 0; i < parts; i++) {
          vi.advanceTimersByTime(8000);
          await delay(1);
          signal.throwIfAborted();
          yield Buffer.alloc(bytes, 'x');
        }
      })();
    },
    check: async () => {},
    close: async () => {},
  };
  const cache = new BinaryCache(files, { trust: { keys: [], everything: true } });
  return codeOf(cache.narInfo(new Uint8Array(20), new AbortController().signal));
}

test('a narinfo with many references may take long, as long as it comes', async () => {
  // All of it has come, and is looked at.
  expect(await outcome(30_000, 8)).toBe('DATA_LOSS');
});

test('a narinfo that drips is given up', async () => {
  expect(await outcome(100, 8)).toBe('UNAVAILABLE');
});
