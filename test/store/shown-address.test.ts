import { expect, test } from 'vitest';
import { shownAddress } from '../../src/util/url.ts';

test.each([
  ['local:///var/lib/x', 'local:///var/lib/x'],
  ['nix+https://me:pass@cache/x?priority=1', 'nix+https://…@cache/x?priority=1'],
  [
    'objectstore+s3://b?aws_secret_access_key=S&region=r',
    'objectstore+s3://b?aws_secret_access_key=…&region=r',
  ],
  [
    'cache://?near=memory:&far=objectstore%2Bs3%3A%2F%2Fb%3Fsecret_access_key%3DS%26region%3Dr',
    'cache://?near=memory:&far=objectstore%2Bs3%3A%2F%2Fb%3Fsecret_access_key%3D…%26region%3Dr',
  ],
  [
    'cache://?near=memory:&far=nix%2Bhttps%3A%2F%2Fme%3Apass%40cache%2F&x=1',
    'cache://?near=memory:&far=nix%2Bhttps%3A%2F%2F…%40cache%2F&x=1',
  ],
  [
    'cache://?far=nix+https://me:pass@one&near=grpc+http://you:word@two',
    'cache://?far=nix+https://…@one&near=grpc+http://…@two',
  ],
])('what is shown of %s has no secrets in it', (address, shown) => {
  expect(shownAddress(address)).toBe(shown);
});
