import { expect, test } from 'vitest';
import { EMPTY_DIGEST } from '../../src/castore/digest.ts';
import {
  describeNeed,
  needBlob,
  needDirectory,
  needIndex,
  needPathInfo,
  needPathInfos,
} from '../../src/fs/need.ts';
import { StorePath } from '../../src/nix/store-path.ts';

test('what cannot be fetched is said as a person knows it', () => {
  const { hash } = StorePath.parse('00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools');
  const { bytes } = EMPTY_DIGEST;
  const where = `${EMPTY_DIGEST} in 00bgd045z0d4icpbc2yyz4gx48ak44la`;
  expect(
    [
      needPathInfo(hash),
      needPathInfos,
      needDirectory(hash, bytes),
      needIndex(hash, bytes),
      needBlob(hash, bytes, 100, 10, 20, []),
    ].map(describeNeed),
  ).toEqual([
    'store path 00bgd045z0d4icpbc2yyz4gx48ak44la',
    'the list of store paths',
    `directory ${where}`,
    `directory ${where}`,
    `bytes 10 to 29 of file ${where}`,
  ]);
});
