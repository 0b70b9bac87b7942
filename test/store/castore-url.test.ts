import fc from 'fast-check';
import { expect, test } from 'vitest';
import { printRootNode } from '../../src/server/http/root-node.ts';
import { rootInUrl } from '../../src/store/nar/castore-url.ts';
import { nodes } from '../helpers/arbitraries.ts';

const dialect = fc.constantFrom('snix', 'tvix');

test('the URL of a NAR names the root that it was made of', () => {
  fc.assert(
    fc.property(nodes, dialect, fc.constantFrom('', '?narsize=5'), (root, name, query) => {
      const url = `nar/${name}-castore/${printRootNode(root)}${query}`;
      expect(printRootNode(rootInUrl(url)!)).toBe(printRootNode(root));
    }),
  );
});

test('any other names none, and does no harm', () => {
  const text = fc.string({ unit: 'binary', maxLength: 200 });
  fc.assert(fc.property(text, (url) => void expect(rootInUrl(url)).toBeUndefined()));
  const bytes = fc.uint8Array({ maxLength: 100 }).map((some) => Buffer.from(some).toString('base64url'));
  fc.assert(
    fc.property(dialect, fc.oneof(text, bytes), (name, rest) => {
      const root = rootInUrl(`nar/${name}-castore/${rest}`);
      const again = root && rootInUrl(`nar/snix-castore/${printRootNode(root)}`);
      expect(again && printRootNode(again)).toBe(root && printRootNode(root));
    }),
  );
});
