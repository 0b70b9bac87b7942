import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCaches } from '../../../src/store/substitute/address.ts';
import { credentialsFor, parseNetrc } from '../../../src/store/substitute/netrc.ts';
import { openCaches } from '../../../src/store/substitute/open-caches.ts';
import { describeFacts } from '../../helpers/facts.ts';
import { tempDir } from '../../helpers/temp.ts';

const KEY = 'a.b-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcD+hjY=';
const parse = (address: string) => openCaches(parseCaches(new URL(address)));
const keyNames = (address: string) => parse(address).map(({ trust }) => trust.keys.map(({ name }) => name));

describe('the address of a cache', () => {
  test('names its host and path, and whom to trust', () => {
    const [cache] = parse(`nix+https://cache.example/sub/?priority=7&trusted-public-keys=${KEY}`);
    expect(cache!.address).toBe('nix+https://cache.example/sub');
    expect(cache!.priority).toBe(7);
    expect(cache!.trust.keys.map(String)).toEqual([KEY]);
    expect(cache!.trust.everything).toBe(false);
    expect(parse('nix+http://[::1]:80/?trusted=1')[0]!.trust.everything).toBe(true);
    expect(parse('nix+file:///a%20b')[0]!.address).toBe('nix+file:///a b');
  });

  test('takes keys however they are written', () => {
    for (const list of [
      `${KEY} ${KEY}`,
      `${KEY}%20${KEY}`,
      `${KEY}+${KEY}`,
      encodeURIComponent(`${KEY}\n${KEY}`),
    ]) {
      expect(parse(`nix+https://c?trusted-public-keys=${list}`)[0]!.trust.keys.map(String)).toEqual([
        KEY,
        KEY,
      ]);
    }
  });

  test('knows the key of cache.nixos.org, unless others are given', () => {
    expect(keyNames('nix+https://cache.nixos.org')).toEqual([['cache.nixos.org-1']]);
    expect(keyNames(`nix+https://cache.nixos.org?trusted-public-keys=${KEY}`)).toEqual([['a.b-1']]);
    expect(keyNames('nix+https://cache.nixos.org.example')).toEqual([[]]);
    expect(keyNames('nix+file:///cache.nixos.org')).toEqual([[]]);
  });

  test('may name others, for which its keys count, too', () => {
    const others = ['nix+https://cache.nixos.org', `nix+file:///dir?trusted-public-keys=${KEY}`];
    const list = others.map((other) => `&substituter=${encodeURIComponent(other)}`).join('');
    expect(keyNames(`nix+https://first?trusted-public-keys=${KEY}${list}`)).toEqual([
      ['a.b-1'],
      ['cache.nixos.org-1', 'a.b-1'],
      ['a.b-1', 'a.b-1'],
    ]);
  });

  test.each([
    ['nix+https://c?unknown=1', /unknown parameter "unknown"; allowed are trusted-public-keys/],
    ['nix+https://c?trusted-public-keys=nonsense', /trusted-public-keys: not a public key/],
    ['nix+https://c?trusted=maybe', /trusted: want 1 or 0/],
    ['nix+https://c?priority=-1', /priority: want a number/],
    ['nix+https://c?substituter=https%3A%2F%2Fd', /substituter: want nix\+https/],
    ['nix+https://c?substituter=nonsense', /substituter: not an address/],
    ['nix+https:///path', /name a host/],
    ['nix+file://host/path', /write nix\+file:\/\/\/host\/path/],
    ['nix+https://c?priority=%zz', /percent-encoded/],
  ])('is refused when it means nothing: %s', (address, reason) => {
    expect(() => parse(address)).toThrow(reason);
  });

  test('shows no password in an error', () => {
    expect(() => parse('nix+https://user:secret@c?unknown=1')).toThrow(/^(?!.*secret).*unknown/);
  });
});

describeFacts('service_url', (facts) => {
  const addresses = facts.filter(({ input }) => input.url.startsWith('nix+'));

  test.each(addresses)('$input.url', ({ input, expected }) => {
    expect(expected.constructs).toBe(true);
    expect(parse(input.url)).toHaveLength(1);
  });
});

describe('a netrc file', () => {
  test('gives the first entry for the host, or the one for all', () => {
    const text = `
# login of nobody
machine a login alice password one
machine b
  login bob
  password "two \\" words"
macdef init
machine c login macro password macro

machine c login carol account x password three machine a login later password later
default login any password four`;
    expect(parseNetrc(text, 'a')).toEqual({ user: 'alice', password: 'one' });
    expect(parseNetrc(text, 'b')).toEqual({ user: 'bob', password: 'two " words' });
    expect(parseNetrc(text, 'c')).toEqual({ user: 'carol', password: 'three' });
    expect(parseNetrc(text, 'd')).toEqual({ user: 'any', password: 'four' });
    expect(parseNetrc('machine a login x password y', 'b')).toBeUndefined();
    expect(parseNetrc('machine a', 'a')).toBeUndefined();
  });

  test('is read as curl reads it', () => {
    expect(parseNetrc('machine a\ndefault login x password y', 'a')).toEqual({ user: 'x', password: 'y' });
    expect(parseNetrc('MACHINE a Login x PASSWORD y', 'a')).toEqual({ user: 'x', password: 'y' });
    expect(parseNetrc('machine a login x password "1\\n2\\t\\"3"', 'a')?.password).toBe('1\n2\t"3');
  });

  test('has the password of a user whom the address names without one', () => {
    const text = 'machine a login x password one\nmachine a login y password two\nmachine b password three';
    expect(parseNetrc(text, 'a', 'y')).toEqual({ user: 'y', password: 'two' });
    expect(parseNetrc(text, 'b', 'y')).toEqual({ user: 'y', password: 'three' });
    expect(parseNetrc(text, 'a', 'z')).toBeUndefined();
    const netrcFile = join(tempDir(), 'netrc');
    writeFileSync(netrcFile, text);
    const asked = (address: string) => {
      const [cache] = parseCaches(new URL(`${address}?netrc-file=${netrcFile}`));
      return credentialsFor({ ...cache!, place: cache!.place as URL })();
    };
    expect(asked('nix+http://y@a/')).toEqual({ user: 'y', password: 'two' });
    expect(asked('nix+http://z@a/')).toEqual({ user: 'z', password: '' });
    expect(asked('nix+http://y:own@a/')).toEqual({ user: 'y', password: 'own' });
    expect(asked('nix+http://c/')).toBeUndefined();
  });

  test('names hosts as they are written anywhere', () => {
    expect(parseNetrc('machine Cache.Example login x password y', 'cache.example')?.user).toBe('x');
    expect(parseNetrc('machine ::1 login x password y', '[::1]')?.user).toBe('x');
    expect(parseNetrc('machine [2001:DB8::1] login x password y', '[2001:db8::1]')?.user).toBe('x');
    expect(parseNetrc('machine login password y', '')).toBeUndefined();
  });

  test('is not looked into where the address has a password, with a user or without', () => {
    const credentials = (address: string) => parseCaches(new URL(address))[0]!.credentials;
    expect(credentials('nix+http://user:pw@host/')).toEqual({ user: 'user', password: 'pw' });
    expect(credentials('nix+http://:pw@host/')).toEqual({ user: '', password: 'pw' });
    expect(credentials('nix+http://user@host/')).toEqual({ user: 'user', password: '' });
    expect(credentials('nix+http://host/')).toBeUndefined();
  });

  test('may hold anything', () => {
    const word = fc.constantFrom(
      'machine',
      'host',
      'login',
      'password',
      'default',
      'macdef',
      '"',
      '#',
      '\n',
      ' ',
      'x',
    );
    void fc.assert(
      fc.property(fc.array(word, { maxLength: 60 }), (words) => {
        const found = parseNetrc(words.join(' '), 'host');
        expect(found === undefined || typeof found.user === 'string').toBe(true);
      }),
    );
  });
});
