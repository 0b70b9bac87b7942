import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { ROOT, run } from '../helpers/cli.ts';
import { tempDir } from '../helpers/temp.ts';
import { blocksOf } from './markdown.ts';

const dir = tempDir();
const installed = join(dir, 'node_modules/tvix-store');
let files: string[];

/** A package that depends on what `npm pack` makes of this one. */
beforeAll(async () => {
  const packed = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', dir], {
    cwd: ROOT,
  });
  expect(packed, packed.stderr).toMatchObject({ status: 0 });
  const [{ filename, files: inside }] = JSON.parse(packed.stdout);
  files = inside.map(({ path }: { path: string }) => path);
  mkdirSync(installed, { recursive: true });
  await run('tar', ['-xzf', join(dir, filename), '-C', installed, '--strip-components=1']);
  symlinkSync(join(ROOT, 'node_modules'), join(installed, 'node_modules'));
  symlinkSync(join(ROOT, 'node_modules/@types'), join(dir, 'node_modules/@types'));
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }');
  const [example] = blocksOf(readFileSync(join(ROOT, 'docs/api.md'), 'utf8'), 'ts');
  writeFileSync(join(dir, 'example.ts'), example!.text.replaceAll('/tmp/example', join(dir, 'example')));
  mkdirSync(join(dir, 'project'));
  writeFileSync(join(dir, 'project/hello.txt'), 'hello\n');
});

test('the example of docs/api.md runs', async () => {
  const { status, stdout, stderr } = await run(process.execPath, ['example.ts'], { cwd: dir });
  expect({ status, stderr }).toMatchObject({ status: 0 });
  expect(stdout).toMatch(
    /^\/nix\/store\/[0-9a-z]{32}-project has a NAR of \d+ bytes\nfile hello.txt 6n\nhello\n/,
  );
  expect(stdout).toContain('undefined\nNOT_FOUND ');
  expect(
    readFileSync(join(dir, 'example/real', /\/([^/ ]+) has/.exec(stdout)![1]!, 'hello.txt'), 'utf8'),
  ).toBe('hello\n');
});

test('the example is right in the eyes of a strict compiler, and so are the declarations', async () => {
  const options = { strict: true, noEmit: true, module: 'nodenext', target: 'es2023', types: ['node'] };
  writeFileSync(
    join(dir, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, files: ['example.ts'] }),
  );
  const tsc = await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', dir]);
  expect(tsc.stdout).toBe('');
  expect(tsc.status).toBe(0);
});

test('importing the package changes nothing in the process, and loads nothing that mounts or serves', async () => {
  const probe = `
    import { registerHooks } from 'node:module';
    const loaded = [];
    registerHooks({ load: (url, context, next) => { loaded.push(url); return next(url, context); } });
    const state = () => JSON.stringify([process.eventNames(), process.env, process.execArgv]);
    const before = state();
    await import('tvix-store');
    console.log(before === state(), loaded.some((url) => url.endsWith('/dist/index.js')));
    console.log(loaded.filter((url) => /tvix-store\\/dist\\/(fuse|mount|server|cli)\\/|grpc-js|client-s3/.test(url)).join());`;
  writeFileSync(join(dir, 'probe.mjs'), probe);
  const { stdout, stderr } = await run(process.execPath, ['probe.mjs'], { cwd: dir });
  expect({ stdout, stderr }).toEqual({ stdout: 'true true\n\n', stderr: '' });
});

test('a store that is closed serves nothing, not even what was only beginning to be served', async () => {
  const probe = `
    import { existsSync, mkdirSync } from 'node:fs';
    import { Store } from 'tvix-store';
    const store = await Store.open('local://${join(dir, 'closing')}');
    mkdirSync('${join(dir, 'mount')}');
    const beginning = [store.mount('${join(dir, 'mount')}'), store.serveDaemon('${join(dir, 'socket')}')];
    await store.close();
    await Promise.all(beginning);
    console.log(existsSync('${join(dir, 'socket')}'));
    await store.serveDaemon('[::1]:0').catch((error) => console.log(error.code, error.message));`;
  writeFileSync(join(dir, 'closing.mjs'), probe);
  const { stdout, stderr } = await run(process.execPath, ['closing.mjs'], { cwd: dir });
  expect({ stdout, stderr }).toEqual({
    stdout: 'false\nFAILED_PRECONDITION the store is closed\n',
    stderr: '',
  });
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(join(dir, 'mount'));
});

test('a package has what runs and what describes it, and neither sources nor tests', () => {
  expect(files).toEqual(expect.arrayContaining(['README.md', 'LICENSE', 'dist/index.js', 'dist/index.d.ts']));
  const others = files.filter((file) => !/^(dist|protos)\/|^(README\.md|LICENSE|package\.json)$/.test(file));
  expect(others).toEqual([]);
  expect(files.filter((file) => /(?<!\.d)\.ts$/.test(file))).toEqual([]);
});
