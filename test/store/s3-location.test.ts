import { describe, expect, test } from 'vitest';
import { s3Location } from '../../src/store/open/backends/s3-location.ts';
import { openStore } from '../../src/store/open/open-store.ts';
import { UsageError } from '../../src/util/errors.ts';
import { shownAddress } from '../../src/util/url.ts';
import { tempDir } from '../helpers/temp.ts';

const location = (rest: string) => s3Location(new URL(`objectstore+s3://${rest}`));

describe('the address of a bucket', () => {
  test('is a bucket and a prefix', () => {
    expect(location('Bucket.name')).toMatchObject({
      bucket: 'Bucket.name',
      prefix: '',
      virtualHosted: false,
    });
    expect(location('b/')).toMatchObject({ bucket: 'b', prefix: '' });
    expect(location('b/some/where%20else/')).toMatchObject({ prefix: 'some/where else/' });
  });

  test('takes the names of AWS and of the Rust implementation, with aws_ or without, in any case', () => {
    const expected = {
      endpoint: 'http://localhost:1',
      region: 'r',
      virtualHosted: true,
      anonymous: false,
      credentials: { accessKeyId: 'i', secretAccessKey: 's+/', sessionToken: 't' },
    };
    for (const parameters of [
      'aws_endpoint=http://localhost:1&aws_region=r&aws_virtual_hosted_style_request=true&aws_allow_http=true' +
        '&aws_access_key_id=i&aws_secret_access_key=s+/&aws_session_token=t',
      'AWS_ENDPOINT_URL=http://localhost:1&AWS_DEFAULT_REGION=r&virtual_hosted_style_request=true&allow_http=true' +
        '&AWS_ACCESS_KEY_ID=i&AWS_SECRET_ACCESS_KEY=s%2B%2F&token=t',
    ]) {
      expect(location(`b?${parameters}`)).toMatchObject(expected);
    }
    expect(location('b?aws_skip_signature=true&aws_profile=p')).toMatchObject({
      anonymous: true,
      profile: 'p',
    });
  });

  test.each([
    ['/prefix', 'name a bucket'],
    ['b?colour=red', 'unknown parameter "colour"; allowed are aws_endpoint, '],
    ['b?aws_endpoint=localhost:1', 'aws_endpoint is a URL such as https://s3.example'],
    ['b?aws_endpoint=http://localhost:1', 'add aws_allow_http=true'],
    ['b?aws_allow_http=yes', 'allow_http is true or false'],
    ['b?aws_access_key_id=i', 'aws_access_key_id and aws_secret_access_key go together'],
  ])('cannot be %s', (rest, why) => {
    expect(() => location(rest)).toThrow(UsageError);
    expect(() => location(rest)).toThrow(why);
  });

  test('is shown without the keys in it', () => {
    const address =
      'objectstore+s3://b?aws_access_key_id=AKIA&SECRET_ACCESS_KEY=secret&aws_session_token=t&region=r';
    expect(shownAddress(address)).toBe(
      'objectstore+s3://b?aws_access_key_id=…&SECRET_ACCESS_KEY=…&aws_session_token=…&region=r',
    );
    expect(() => location('b?aws_access_key_id=AKIA&colour=red')).toThrow(/^objectstore\+s3:\/\/b: unknown/);
  });
});

describe.each([
  ['objectstore+file:///', 'name a directory'],
  ['objectstore+file://host/dir', 'did you mean objectstore+file:///host/dir?'],
  ['objectstore+file:///dir?depth=3', 'unknown parameter "depth"'],
  ['objectstore+memory://host', 'a host has no meaning here'],
  ['objectstore+memory:///path', 'a path has no meaning here'],
  ['objectstore+ftp://host', 'unknown kind of store'],
])('the address %s', (address, why) => {
  test('means nothing', async () => {
    const opening = openStore(
      { blobs: address, directories: address, pathInfos: address, cacheDir: tempDir() },
      'read',
    );
    await expect(opening).rejects.toThrow(why);
    await expect(opening).rejects.toThrow(UsageError);
  });
});
