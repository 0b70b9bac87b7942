import { describe, expect, test } from 'vitest';
import { parseCaches } from '../../../src/store/substitute/address.ts';
import { openCached, TRUSTED, testPath } from '../../helpers/binary-cache.ts';
import { randomBytes } from '../../helpers/random.ts';
import { S3Server } from '../../helpers/s3.ts';
import { checkComplete, codeOf } from '../../helpers/services.ts';
import { file } from '../../helpers/trees.ts';

const started = S3Server.start();
const declare = started instanceof S3Server ? describe : describe.skip;
const server = started as S3Server;

declare(`a bucket in the layout of Nix${started instanceof S3Server ? '' : ` (${started.missing})`}`, () => {
  test('is read as any other cache, in parts', async () => {
    const address = server.address();
    const objects = await server.objects(address);
    const paths = [testPath('small'), testPath('large', { tree: file(randomBytes(17 << 20, 'large')) })];
    await objects.put('nix-cache-info', Buffer.from('StoreDir: /nix/store\n'), 'always');
    for (const { info, file } of paths) {
      await objects.put(`${info.storePath.hashText}.narinfo`, Buffer.from(info.toString()), 'always');
      await objects.put(info.url, file, 'always');
    }
    // As Nix writes the same.
    const url = new URL(address.replace('objectstore+', 'nix+'));
    url.searchParams.delete('aws_endpoint');
    url.searchParams.delete('aws_allow_http');
    const nix = `${url}&endpoint=${new URL(server.endpoint).host}&scheme=http&${TRUSTED.slice(1)}`;
    const store = await openCached(nix);
    for (const { info } of paths)
      await checkComplete(store, (await store.pathInfos.get(info.storePath.hash))!);
    expect(await store.pathInfos.get(testPath('absent').info.storePath.hash)).toBeUndefined();
    const away = testPath('away', { lies: { url: 'http://127.0.0.1/nar/x.nar' } });
    await objects.put(`${away.info.storePath.hashText}.narinfo`, Buffer.from(away.info.toString()), 'always');
    expect(await codeOf(store.pathInfos.get(away.info.storePath.hash))).toBe('PERMISSION_DENIED');
    await objects.close();
  });
});

describe('the address of such a bucket', () => {
  const place = (address: string) => parseCaches(new URL(address))[0]!.place;

  test('has the parameters of Nix, and those of other buckets', () => {
    expect(place('nix+s3://bucket/a/b?region=eu-1&profile=me&priority=3')).toMatchObject({
      bucket: 'bucket',
      prefix: 'a/b/',
      region: 'eu-1',
      profile: 'me',
    });
    expect(place('nix+s3://bucket?endpoint=s3.example')).toMatchObject({ endpoint: 'https://s3.example' });
    expect(place('nix+s3://bucket?endpoint=s3.example:9000&scheme=http')).toMatchObject({
      endpoint: 'http://s3.example:9000',
    });
    expect(place('nix+s3://bucket?aws_endpoint=https://s3.example&aws_region=x')).toMatchObject({
      region: 'x',
    });
  });

  test.each([
    'nix+s3://',
    'nix+s3://bucket?scheme=ftp',
    'nix+s3://bucket?unknown=1',
    'nix+s3://bucket?endpoint=http://x',
  ])('cannot be %s', (address) => {
    expect(() => place(address)).toThrow();
  });
});
