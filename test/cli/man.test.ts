import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { run } from '../helpers/cli.ts';
import { inProcess } from '../helpers/in-process.ts';
import { tempDir } from '../helpers/temp.ts';

const dir = tempDir();

/** Programs that read manual pages, and say what is wrong with them. */
const JUDGES: readonly (readonly [string, readonly string[]])[] = [
  ['mandoc', ['-Tlint', '-Wstyle']],
  ['groff', ['-man', '-ww', '-Tutf8']],
  ['man', ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z']],
];

beforeAll(async () => {
  expect(await inProcess(['man', '--directory', dir])).toEqual({ status: 0, stdout: '', stderr: '' });
});

test('there is a page of every command', async () => {
  const { stdout } = await inProcess(['--help']);
  const commands = [...stdout.slice(stdout.indexOf('Commands:')).matchAll(/^ {2}([a-z-]+)/gm)].map(
    ([, name]) => name!,
  );
  expect(commands).toContain('import');
  const pages = commands.filter((name) => name !== 'help').map((name) => `tvix-store-${name}.1`);
  expect(readdirSync(dir)).toEqual(
    expect.arrayContaining([...pages, 'tvix-store.1', 'tvix-store-root-add.1']),
  );
});

describe.each(JUDGES)('%s', (judge, flags) => {
  const found = spawnSync(judge, ['--version']).error === undefined;
  (found ? test : test.skip)(
    `finds nothing wrong with them${found ? '' : ` (no ${judge} in PATH)`}`,
    async () => {
      const pages = readdirSync(dir).map((name) => join(dir, name));
      const env = { ...process.env, MANWIDTH: '80', LC_ALL: 'C.UTF-8' };
      // One by one: groff takes several for one text, and man ends at the first.
      for (const page of pages) {
        const { status, stdout, stderr } = await run(judge, [...flags, page], { env });
        expect([page, status, stderr, judge === 'mandoc' ? stdout : '']).toEqual([page, 0, '', '']);
      }
    },
  );
});

test('a page says what the help says', async () => {
  const help = (await inProcess(['gc', '--help'])).stdout;
  const page = (await inProcess(['man', 'gc'])).stdout;
  expect(page).toBe(readFileSync(join(dir, 'tvix-store-gc.1'), 'utf8'));
  const words = (text: string) => text.replaceAll('\\-', '-').replaceAll(/\s+/g, ' ');
  const options = [...help.matchAll(/^ {2}(-.*?) {2,}(\S+)/gm)];
  expect(options.length).toBeGreaterThan(8);
  for (const [, term, first] of options) expect(words(page)).toContain(`.TP .B ${term} ${first}`);
});

test('man takes the words of a command, by its alias as well', async () => {
  expect((await inProcess(['man', 'root', 'add'])).stdout).toContain('.TH TVIX-STORE-ROOT-ADD 1');
  expect((await inProcess(['man', 'realize'])).stdout).toContain('.TH TVIX-STORE-REALISE 1');
  expect((await inProcess(['man'])).stdout).toContain('.TH TVIX-STORE 1');
  expect(await inProcess(['man', 'frobnicate'])).toMatchObject({ status: 2, stdout: '' });
  expect(await inProcess(['man', '--directory', dir, 'gc'])).toMatchObject({ status: 2, stdout: '' });
});

test('pages have the date that a reproducible build wants', async () => {
  process.env.SOURCE_DATE_EPOCH = '86400';
  try {
    expect((await inProcess(['man'])).stdout).toContain(' 1 1970-01-02 ');
  } finally {
    delete process.env.SOURCE_DATE_EPOCH;
  }
});
