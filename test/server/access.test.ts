import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matches } from '../../src/server/access/pattern.ts';
import type { AccessRuleOptions, Caller } from '../../src/server/access/rule.ts';
import { AccessRule } from '../../src/server/access/rule.ts';
import type { Right, TokenFile } from '../../src/server/access/tokens.ts';
import { hashOfToken, parseTokenFile, printTokenFile } from '../../src/server/access/tokens.ts';
import type { Code } from '../../src/util/errors.ts';
import { forAll } from '../helpers/arbitraries.ts';
import { codeOf } from '../helpers/services.ts';
import { storePathOf } from '../helpers/store-paths.ts';

const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
const token = (name: string, rights: Right[], more = {}) => ({
  name,
  sha256: hashOfToken(name),
  rights,
  ...more,
});

const FILE: TokenFile = {
  anonymous: ['read'],
  tokens: [
    token('reader', ['read']),
    token('writer', ['read', 'write']),
    token('admin', ['admin']),
    token('over', ['admin'], { expires: '2020-01-01T00:00:00Z' }),
    token('later', ['admin'], { expires: '9020-01-01T00:00:00Z' }),
    token('some', ['read', 'write'], { paths: ['*-hello*', 'x'] }),
  ],
};
const open = { tokens: () => FILE };
const closed = { tokens: () => ({ ...FILE, anonymous: [] }) };
const far = { isTrusted: false };
const near = { isTrusted: true };
const shows = (word: string) => ({ ...far, authorization: `Bearer ${word}` });

describe('who may do what', () => {
  const CASES: [AccessRuleOptions, Caller, Right, Code | 'OK'][] = [
    [{}, near, 'write', 'OK'],
    [{}, far, 'read', 'OK'],
    [{}, far, 'write', 'PERMISSION_DENIED'],
    [{}, shows('writer'), 'write', 'PERMISSION_DENIED'],
    [{}, { ...far, hasCertificate: true }, 'write', 'OK'],
    [{ anonymous: true }, far, 'write', 'OK'],
    [{ readOnly: true }, near, 'write', 'PERMISSION_DENIED'],
    [{ readOnly: true }, { ...far, hasCertificate: true }, 'write', 'PERMISSION_DENIED'],
    [{ readOnly: true }, far, 'read', 'OK'],
    [{ readOnly: true, ...closed }, far, 'read', 'UNAUTHENTICATED'],
    [open, near, 'write', 'OK'],
    [open, far, 'read', 'OK'],
    [open, far, 'write', 'UNAUTHENTICATED'],
    [open, { ...far, hasCertificate: true }, 'write', 'OK'],
    [open, shows('reader'), 'write', 'PERMISSION_DENIED'],
    [open, shows('reader'), 'read', 'OK'],
    [open, shows('writer'), 'write', 'OK'],
    [open, shows('writer'), 'admin', 'PERMISSION_DENIED'],
    [open, shows('admin'), 'write', 'OK'],
    [open, shows('over'), 'write', 'UNAUTHENTICATED'],
    [open, shows('later'), 'write', 'OK'],
    // Who shows a word that is none wants to be told.
    [open, shows('nonsense'), 'read', 'UNAUTHENTICATED'],
    [open, { ...far, authorization: 'bearer  writer ' }, 'write', 'OK'],
    [open, { ...far, authorization: basic('anybody', 'writer') }, 'write', 'OK'],
    [open, { ...far, authorization: basic('', 'writer') }, 'write', 'OK'],
    [open, { ...far, authorization: basic('writer', '') }, 'write', 'UNAUTHENTICATED'],
    [open, { ...far, authorization: 'writer' }, 'write', 'UNAUTHENTICATED'],
    [open, { ...far, authorization: 'Basic writer' }, 'write', 'UNAUTHENTICATED'],
    [open, { ...far, authorization: 'Bearer' }, 'write', 'UNAUTHENTICATED'],
    [open, { ...far, authorization: '' }, 'read', 'OK'],
    [closed, far, 'read', 'UNAUTHENTICATED'],
    [closed, near, 'read', 'OK'],
    [closed, shows('reader'), 'read', 'OK'],
  ];
  test.each(CASES)('%j %j %s: %s', async (options, caller, right, expected) => {
    const check = () => new AccessRule(options).check(caller, right);
    if (expected === 'OK') expect(check).not.toThrow();
    else expect(await codeOf(check)).toBe(expected);
  });

  test('a token may be for some store paths', () => {
    const grant = new AccessRule(open).check(shows('some'), 'write');
    expect(grant.isFor(storePathOf('hello-2.12'))).toBe(true);
    expect(grant.isFor(storePathOf('bash'))).toBe(false);
    expect(new AccessRule(open).check(shows('writer'), 'write').isFor(storePathOf('bash'))).toBe(true);
  });
});

test('a pattern means what a regular expression would', () => {
  const texts = fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 12 });
  const patterns = fc.string({ unit: fc.constantFrom('a', 'b', '.', '*'), maxLength: 8 });
  forAll(
    fc.tuple(patterns, texts),
    ([pattern, text]) => {
      const expression = new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
      expect(matches(pattern, text), `${pattern} ${text}`).toBe(expression.test(text));
    },
    2000,
  );
  // It takes no longer the more of them there are.
  expect(matches('*a'.repeat(100), 'a'.repeat(100_000).concat('b'))).toBe(false);
});

describe('a file of tokens', () => {
  test('is read as it was written', () => {
    expect(parseTokenFile(Buffer.from(printTokenFile(FILE)))).toEqual(FILE);
    expect(parseTokenFile(Buffer.from('{}'))).toEqual({ anonymous: ['read'], tokens: [] });
  });

  test.each([
    ['', 'not JSON'],
    ['[]', 'want an object'],
    ['{"token": []}', 'unknown key "token"'],
    ['{"anonymous": ["write"]}', 'nothing but read is possible'],
    ['{"anonymous": ["all"]}', '"all" is none of read, write, admin'],
    ['{"tokens": [{"name": "a b", "sha256": "", "rights": []}]}', 'tokens[0].name'],
    ['{"tokens": [{"name": "a", "sha256": "abc", "rights": []}]}', 'tokens[0].sha256'],
    [JSON.stringify({ tokens: [{ ...token('a', []), expires: 'soon' }] }), 'tokens[0].expires'],
    [JSON.stringify({ tokens: [{ ...token('a', []), paths: [''] }] }), 'tokens[0].paths'],
    [JSON.stringify({ tokens: [token('a', []), token('a', [])] }), 'same name'],
  ])('is refused: %s', (text, why) => {
    expect(() => parseTokenFile(Buffer.from(text))).toThrow(why);
  });

  test('that is noise is refused in words', () => {
    forAll(fc.oneof(fc.json(), fc.string()), (text) => {
      try {
        parseTokenFile(Buffer.from(text));
      } catch (error) {
        expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
      }
    });
  });
});
