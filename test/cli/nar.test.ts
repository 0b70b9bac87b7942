import { beforeAll, describe, expect, test } from 'vitest';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { checkLocalStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, symlink, writeTree } from '../helpers/trees.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
let path = '';

beforeAll(async () => {
  const odd = {
    'odd \xff\n': file('odd'),
    link: symlink('../gone'),
    empty: directory(),
    run: file('#!', true),
  };
  writeTree(`${dir}/tree`, directory({ tree: generateTree(80, 5), ...odd }));
  const { stdout } = await tvixStore(['import', '--store', store, '--name', 'tree', `${dir}/tree`]);
  path = stdout.trim();
});

describe('a NAR that is dumped', () => {
  test('is imported again under the same store path, from a file and from a pipe', async () => {
    await run('sh', ['-c', `"${process.execPath}" "${CLI}" nar dump --store ${store} ${path} > ${dir}/nar`]);
    for (const from of [`${dir}/nar`, '- < "$NAR"']) {
      const command = `"${process.execPath}" "${CLI}" nar import --store memory: --name tree ${from}`;
      const { stdout } = await run('sh', ['-c', command], { env: { ...process.env, NAR: `${dir}/nar` } });
      expect(stdout).toBe(`${path}\n`);
    }
  });

  test('is refused when it is cut, and nothing is registered', async () => {
    await run('sh', ['-c', `head -c 1000 ${dir}/nar > ${dir}/cut`]);
    const at = `local://${dir}/refused`;
    const result = await tvixStore(['nar', 'import', '--store', at, '--name', 'tree', `${dir}/cut`]);
    expect(result).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('at byte 1000') });
    expect((await tvixStore(['path-info', '--store', at])).stdout).toBe('');
  });

  test('need not be read to its end', async () => {
    const command = `"${process.execPath}" "${CLI}" nar dump --store ${store} ${path} | head -c 10`;
    expect(await run('sh', ['-c', command])).toMatchObject({ status: 0, stderr: '' });
  });
});

test('a tree with names that JSON cannot hold has no listing', async () => {
  const result = await tvixStore(['nar', 'ls', '--store', store, path]);
  expect(result).toMatchObject({ status: 1, stderr: expect.stringContaining('odd \\xff') });
});

test('a file that is not there, or is a directory, is refused with its name', async () => {
  for (const bad of [`${dir}/missing`, dir]) {
    const result = await tvixStore(['nar', 'import', '--store', 'memory:', '--name', 'x', bad]);
    expect(result).toMatchObject({ status: 1, stderr: expect.stringContaining(`cannot read ${bad}`) });
  }
});

describeNix('beside the real Nix', () => {
  const nix = new NixUser();

  test('a dump has the same bytes', async () => {
    const ours = await nix.run(process.execPath, [CLI, 'nar', 'dump', '--store', store, path]);
    expect(ours.equals(await nix.run('nix-store', ['--dump', `${dir}/tree`]))).toBe(true);
  });

  test('a listing says the same', async () => {
    const tree = generateTree(60, 9);
    writeTree(`${dir}/plain`, directory({ tree, link: symlink('/x'), 'with "quotes"': file('', true) }));
    const imported = await tvixStore(['import', '--store', store, `${dir}/plain`]);
    const { stdout } = await tvixStore(['nar', 'ls', '--store', store, imported.stdout.trim()]);
    await nix.run('sh', ['-c', `nix-store --dump ${dir}/plain > ${dir}/plain.nar`]);
    const theirs = await nix.run('nix', ['nar', 'ls', '--json', '-R', `${dir}/plain.nar`, '/']);
    expect(JSON.parse(stdout)).toEqual({ version: 1, root: JSON.parse(theirs.toString()) });
  });

  test('what nix-store --export makes is imported, and what nar export makes is imported by Nix', async () => {
    const build = `derivation { name = "top"; system = "x86_64-linux"; builder = "/bin/sh";
      args = [ "-c" "/bin/mkdir $out; echo \${builtins.toFile "contents" "dep"} $out > $out/'('; /bin/ln -s name $out/contents" ]; }`;
    const own = ['--store', `${dir}/own`];
    const top = (await nix.run('nix-build', ['--no-out-link', ...own, '-E', build])).toString().trim();
    const closure = (await nix.run('nix-store', [...own, '-qR', top])).toString().trim().split('\n');
    const exported = await nix.run('nix-store', [...own, '--export', ...closure]);
    const at = `local://${dir}/exported`;
    const ours = (...args: string[]) => nix.run(process.execPath, [CLI, 'nar', ...args, '--store', at]);
    const input = { input: exported };
    const imported = await nix.run(process.execPath, [CLI, 'nar', 'import', '-', '--store', at], input);
    expect(imported.toString().trim().split('\n')).toEqual(closure);
    expect(await checkLocalStore(`${dir}/exported`)).toEqual([...closure].sort());
    const back = await ours('export', top);
    expect(back.equals(exported)).toBe(true);
    const taken = await nix.run('nix-store', ['--store', `${dir}/back`, '--import'], { input: back });
    expect(taken.toString().trim().split('\n')).toEqual(closure);
    await nix.run('nix-store', ['--store', `${dir}/back`, '--verify', '--check-contents']);
    // Cut anywhere, or with a reference missing, nothing is taken that is not whole.
    for (const length of [4, 8, 100, exported.length - 300, exported.length - 8]) {
      const cut = { input: exported.subarray(0, length) };
      const result = await nix.try(
        process.execPath,
        [CLI, 'nar', 'import', '-', '--store', `local://${dir}/cut-${length}`],
        cut,
      );
      expect([length, result.status]).toEqual([length, length < 8 ? 2 : 1]);
      expect(result.stderr).toMatch(/too early|give --name/);
    }
    const alone = { input: await ours('export', '--no-closure', top) };
    const lacking = [CLI, 'nar', 'import', '-', '--store', `local://${dir}/alone`];
    const { status, stderr } = await nix.try(process.execPath, lacking, alone);
    expect([status, stderr]).toEqual([1, expect.stringContaining('refers to what is not here')]);
  });

  test('what nix-store --dump makes is imported as Nix would name it', async () => {
    await nix.run('sh', ['-c', `nix-store --dump ${dir}/tree > ${dir}/nix.nar`]);
    const { stdout } = await tvixStore([
      'nar',
      'import',
      '--store',
      'memory:',
      '--name',
      'n',
      `${dir}/nix.nar`,
    ]);
    const arguments_ = ['store', 'add-path', '--store', `${dir}/nix`, '--name', 'n', `${dir}/tree`];
    expect((await nix.run('nix', arguments_)).toString()).toBe(stdout);
  });
});
