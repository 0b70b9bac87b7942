import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SCHEMES } from '../../src/store/open/schemes.ts';
import { ROOT, run, tvixStore } from '../helpers/cli.ts';
import { allBlocks, anchorsOf, blocksOf, linksOf } from './markdown.ts';
import { runPage, scriptOf, whyNot } from './page-runner.ts';

const PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`),
].filter((page) => page.endsWith('.md'));
const read = (page: string) => readFileSync(join(ROOT, page), 'utf8');
const blocksToRun = (page: string) => blocksOf(read(page), 'sh');

describe('every command runs that stands in', () => {
  test.each(PAGES.filter((page) => blocksToRun(page).some((block) => whyNot(block) === undefined)))(
    '%s',
    { timeout: 600_000 },
    async (page) => {
      const dir = mkdtempSync(join(tmpdir(), 'tvix-store-docs-'));
      try {
        const { status, stdout, stderr } = await runPage(read(page), dir);
        expect(status, `${stderr}\n${stdout}`).toBe(0);
      } finally {
        rmSync(dir, { recursive: true, force: true });
      }
    },
  );

  // What is not run is told by name.
  for (const page of PAGES) {
    for (const block of blocksToRun(page)) {
      const reason = whyNot(block);
      if (reason !== undefined) test.skip(`${page}:${block.line}: not run, ${reason}`, () => {});
    }
  }
});

describe('the pages', () => {
  test('say of every block what it is, and leave out few commands', () => {
    const known = ['sh', 'ts', 'toml', 'yaml', 'ini', 'nix', 'text'];
    for (const page of PAGES) {
      for (const { language, line } of allBlocks(read(page)))
        expect(known, `${page}:${line}`).toContain(language);
    }
    const all = PAGES.flatMap(blocksToRun);
    const left = all.filter(({ words }) => words.some((word) => word.startsWith('not-run=')));
    expect(left.length).toBeLessThan(all.length / 5);
  });

  test('link only to what is there', () => {
    const broken = PAGES.flatMap((page) =>
      linksOf(read(page))
        .filter((link) => !/^https?:/.test(link) && !leadsSomewhere(page, link))
        .map((link) => `${page}: ${link}`),
    );
    expect(broken).toEqual([]);
  });

  test('show the units that are installed as they are', () => {
    const units = readdirSync(join(ROOT, 'scripts/units'));
    const shown = PAGES.flatMap((page) => blocksOf(read(page), 'ini')).flatMap(({ words, text }) => {
      const name = words.map((word) => /^file=.*\/(.*)$/.exec(word)?.[1]).find(Boolean);
      return name !== undefined && units.includes(name) ? [{ name, text }] : [];
    });
    expect(shown.length).toBeGreaterThan(0);
    for (const { name, text } of shown) expect(text, name).toBe(read(join('scripts/units', name)));
  });

  test('name only sources that are there', () => {
    const missing = PAGES.flatMap((page) =>
      [...read(page).matchAll(/`((?:src|test|scripts|bench|protos|docs)\/[\w./-]+)`/g)]
        .map(([, path]) => path!)
        .filter((path) => !existsSync(join(ROOT, path)))
        .map((path) => `${page}: ${path}`),
    );
    expect(missing).toEqual([]);
  });

  test('in docs/ are all linked from README', () => {
    const linked = linksOf(read('README.md')).map((link) => link.split('#')[0]);
    for (const page of PAGES.filter((one) => one !== 'README.md')) expect(linked).toContain(page);
  });

  test('README is at most 8000 bytes', () => {
    expect(Buffer.byteLength(read('README.md'))).toBeLessThanOrEqual(8000);
  });

  test('README names every command of --help', async () => {
    const { stdout } = await tvixStore(['--help']);
    const commands = [...stdout.slice(stdout.indexOf('Commands:')).matchAll(/^ {2}([a-z-]+)/gm)].map(
      ([, name]) => name,
    );
    expect(commands).toContain('import');
    const rows = [...read('README.md').matchAll(/^\| (`.*?) \|/gm)].map(([, row]) => row);
    for (const name of commands.filter((one) => one !== 'help')) {
      expect(rows, `${name} is not in the table of README`).toContainEqual(
        expect.stringMatching(new RegExp(`(?:^|, )\`${name}[ \`]`)),
      );
    }
  });

  test('docs/commands.md is what "npm run docs" makes', async () => {
    const { stdout, stderr, status } = await run(process.execPath, ['scripts/commands-page.ts'], {
      cwd: ROOT,
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(read('docs/commands.md'), 'run "npm run docs"').toBe(stdout);
  });

  test('docs/addresses.md names every scheme', () => {
    for (const scheme of Object.keys(SCHEMES)) expect(read('docs/addresses.md')).toContain(`\`${scheme}:/`);
  });

  test('docs/dependencies.md names every package, and no other', () => {
    const { dependencies, optionalDependencies, devDependencies } = JSON.parse(read('package.json'));
    const named = [...read('docs/dependencies.md').matchAll(/^\| (`.*?`) \|/gm)].flatMap(([, row]) =>
      row!.split(', ').map((name) => name.slice(1, -1)),
    );
    expect(named.sort()).toEqual(
      Object.keys({ ...dependencies, ...optionalDependencies, ...devDependencies }).sort(),
    );
  });
});

describe('the script of a page', () => {
  const page =
    '# A\n\n```sh\nfalse\n```\n\n```toml file=/tmp/example/a\nx = 1\n```\n\n```sh not-run="it is wrong"\nrm\n```\n';

  test('has each command at the line where the page has it, and fails there', async () => {
    const { status, stderr } = await run('bash', ['-c', scriptOf(page)]);
    expect(status).toBe(1);
    expect(stderr).toBe('line 4: false\n');
  });

  test('writes files, and leaves out what is not to be run', () => {
    expect(scriptOf(page).split('\n').slice(6)).toEqual([
      "cat >/tmp/example/a <<'END-OF-BLOCK'",
      'x = 1',
      'END-OF-BLOCK',
      ...Array.from({ length: 5 }, () => ''),
    ]);
  });
});

function leadsSomewhere(page: string, link: string): boolean {
  const [path = '', anchor] = link.split('#');
  const target = path === '' ? page : relative(ROOT, join(ROOT, dirname(page), path));
  if (!existsSync(join(ROOT, target))) return false;
  return anchor === undefined || anchorsOf(read(target)).has(anchor);
}
