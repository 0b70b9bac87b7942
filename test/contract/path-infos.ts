import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EMPTY_DIGEST } from '../../src/castore/digest.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { encodePathInfo } from '../../src/store/path-info/message.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import type { PathInfoService } from '../../src/store/path-info/service.ts';
import { toHex } from '../../src/util/bytes.ts';
import { randomBytes } from '../helpers/random.ts';
import { all } from '../helpers/services.ts';

/** A path info that uses every field. */
export function pathInfo(name: string): PathInfo {
  return {
    storePath: StorePath.of(randomBytes(20, name), name),
    node: { kind: 'file', digest: EMPTY_DIGEST, size: 0n, executable: true },
    references: [StorePath.of(randomBytes(20, 'reference'), 'reference')],
    narSize: 1n << 40n,
    narSha256: randomBytes(32, `${name} nar`),
    signatures: [{ name: 'key-1', data: randomBytes(64, 'signature') }],
    deriver: StorePath.of(randomBytes(20, 'deriver'), 'deriver'),
    ca: { type: 'text:sha256', digest: randomBytes(32, 'ca') },
  };
}

/** What every path info service does. */
export function pathInfoServiceContract(
  open: () => Promise<{ pathInfos: PathInfoService; close: () => Promise<void> }>,
): void {
  describe('as a path info service', () => {
    let pathInfos: PathInfoService;
    let close: () => Promise<void>;

    beforeAll(async () => {
      ({ pathInfos, close } = await open());
    });
    afterAll(() => close());

    test('knows nothing of a path that was never put', async () => {
      expect(await pathInfos.get(randomBytes(20, 'never put'))).toBeUndefined();
    });

    test('gives back a path info with all that it holds', async () => {
      const info = pathInfo('whole');
      const encoded = toHex(encodePathInfo(info));
      expect(toHex(encodePathInfo(await pathInfos.put(info)))).toBe(encoded);
      const found = await pathInfos.get(info.storePath.hash);
      expect(toHex(encodePathInfo(found!))).toBe(encoded);
      expect(found).toMatchObject({ narSize: 1n << 40n, ca: { type: 'text:sha256' } });
      expect(found?.storePath.toString()).toBe(info.storePath.toString());
    });

    test('puts a path info over the one that is there', async () => {
      const info = pathInfo('replaced');
      await pathInfos.put(info);
      await pathInfos.put({ ...info, narSize: 7n, signatures: [] });
      expect(await pathInfos.get(info.storePath.hash)).toMatchObject({ narSize: 7n, signatures: [] });
    });

    test('keeps the signatures of a path that is put again', async () => {
      const info = pathInfo('signed-twice');
      const by = (name: string) => ({ name, data: randomBytes(64, name) });
      const names = async () => {
        const found = await pathInfos.get(info.storePath.hash);
        return found!.signatures.map(({ name }) => name).sort();
      };
      await pathInfos.put({ ...info, signatures: [by('a'), by('b')] });
      const stored = await pathInfos.put({ ...info, signatures: [by('b'), by('c')] });
      expect(stored.signatures.map(({ name }) => name).sort()).toEqual(['a', 'b', 'c']);
      await pathInfos.put({ ...info, signatures: [], deriver: undefined });
      expect(await names()).toEqual(['a', 'b', 'c']);
      expect((await pathInfos.get(info.storePath.hash))!.deriver).toBeUndefined();
      if (!pathInfos.replace) return;
      await pathInfos.replace({ ...info, signatures: [by('c')] });
      expect(await names()).toEqual(['c']);
    });

    test('does nothing for a signal that has fired', async () => {
      const reason = new Error('no longer wanted');
      const signal = AbortSignal.abort(reason);
      const info = await pathInfos.put(pathInfo('fired'));
      await expect(pathInfos.get(info.storePath.hash, signal)).rejects.toBe(reason);
      await expect(pathInfos.describe(info.storePath.hash, signal)).rejects.toBe(reason);
      const unwanted = pathInfo('unwanted');
      await expect(pathInfos.put(unwanted, signal)).rejects.toBe(reason);
      expect(await pathInfos.get(unwanted.storePath.hash)).toBeUndefined();
      await expect(all(pathInfos.list(signal))).rejects.toBe(reason);
    });

    test('lists all of them once', async () => {
      const names = Array.from({ length: 20 }, (_, i) => `listed-${i}`);
      await Promise.all(names.map((name) => pathInfos.put(pathInfo(name))));
      const listed = (await all(pathInfos.list())).map((info) => info.storePath.name);
      expect(listed.filter((name) => name.startsWith('listed-')).sort()).toEqual(names.sort());
    });
  });
}
