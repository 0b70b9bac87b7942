import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SecretKey } from '../../src/nix/key.ts';
import { tvixStore } from '../helpers/cli.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { checkLocalStore, localStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { directory, file, generateTree, writeTree } from '../helpers/trees.ts';

describeNix('copy from a Nix store', () => {
  test('takes what Nix tells of a path and of all that it refers to', async () => {
    const nix = new NixUser();
    const root = join(nix.home, 'root');
    const add = async (name: string, contents: string) => {
      writeTree(join(nix.home, name), directory({ f: file(contents) }));
      return String(await nix.run('nix-store', ['--store', root, '--add', join(nix.home, name)])).trim();
    };
    const lib = await add('lib', 'lib');
    const app = String(
      await nix.run('nix', [
        '--store',
        root,
        'eval',
        '--raw',
        '--impure',
        '--expr',
        `builtins.toFile "app" "see \${builtins.storePath "${lib}"}"`,
      ]),
    );
    await nix.run('nix-store', [
      '--generate-binary-cache-key',
      'key-1',
      join(nix.home, 'secret'),
      join(nix.home, 'public'),
    ]);
    await nix.run('nix', ['--store', root, 'store', 'sign', '-r', '-k', join(nix.home, 'secret'), app]);
    const to = `local://${nix.home}/to`;
    const copy = (...args: string[]) =>
      tvixStore(['copy', '--from', `${root}/nix/store`, '--to', to, ...args], { env: nix.env });
    const copied = await copy(app);
    expect(copied).toMatchObject({ status: 0, stdout: `${lib}\n${app}\n` });
    expect(await checkLocalStore(join(nix.home, 'to'))).toEqual([app, lib].sort());
    const { stdout } = await tvixStore(['path-info', '--json', '--store', to, app]);
    const [told] = await nix.pathInfos(['--store', root, app]);
    expect(JSON.parse(stdout)[app]).toMatchObject({
      ca: told!.ca,
      references: told!.references,
      signatures: told!.signatures,
      narSize: told!.narSize,
    });
    expect(told!.signatures).toHaveLength(1);
    const absent = await copy('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-absent');
    expect(absent).toMatchObject({ status: 1, stdout: '' });
    expect(absent.stderr).toContain('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-absent');
  });
});

describeNix('copy to a binary cache', () => {
  /** A store with `app`, which refers to `lib`, and a cache that it is copied to. */
  async function place() {
    const nix = new NixUser();
    const store = localStore(join(nix.home, 'from'));
    await putStorePath(store, 'lib', generateTree(60, 4));
    await putStorePath(store, 'app', file('app', true), {
      references: [storePathOf('app'), storePathOf('lib')],
      deriver: storePathOf('deriver'),
    });
    await store.close();
    const cache = join(nix.home, 'cache');
    const to = `nix+file://${cache}`;
    const app = storePathOf('app').absolute();
    const lib = storePathOf('lib').absolute();
    const copy = (...args: string[]) =>
      tvixStore(['copy', '--from', `local://${nix.home}/from`, '--to', to, ...args, app]);
    return { nix, cache, app, lib, copy };
  }

  test('writes what Nix substitutes from', async () => {
    const { nix, cache, app, lib, copy } = await place();
    expect(await copy('--dry-run')).toMatchObject({ status: 0 });
    expect(await copy()).toMatchObject({ status: 0, stdout: `${lib}\n${app}\n` });
    const url = `file://${cache}`;
    const [one, two] = [join(nix.home, 'one'), join(nix.home, 'two')];
    await nix.run('nix', ['copy', '--from', url, '--to', one, '--no-check-sigs', app]);
    await nix.run('nix-store', [
      '--store',
      two,
      '-r',
      app,
      '--option',
      'substituters',
      url,
      '--option',
      'require-sigs',
      'false',
    ]);
    for (const root of [one, two]) {
      await nix.run('nix-store', ['--store', root, '--verify', '--check-contents']);
      const [told] = await nix.pathInfos(['--store', root, app]);
      expect(told).toMatchObject({
        references: [app, lib].sort(),
        deriver: `${storePathOf('deriver').absolute()}.drv`,
      });
    }
    expect(await copy()).toMatchObject({ status: 0, stdout: '' });
  });

  test('brings later signatures into a cache that Nix made', async () => {
    const { nix, cache, app, copy } = await place();
    expect((await copy()).status).toBe(0);
    await nix.run('nix', [
      'copy',
      '--from',
      `file://${cache}`,
      '--to',
      join(nix.home, 'own'),
      '--no-check-sigs',
      app,
    ]);
    const theirs = join(nix.home, 'theirs');
    await nix.run('nix', [
      'copy',
      '--store',
      join(nix.home, 'own'),
      '--to',
      `file://${theirs}?compression=xz`,
      app,
    ]);
    writeFileSync(join(nix.home, 'secret'), SecretKey.generate('key-1').secret());
    const from = `local://${nix.home}/from`;
    await tvixStore(['sign', '--store', from, '--key-file', join(nix.home, 'secret'), app]);
    const { stdout } = await tvixStore([
      'copy',
      '--from',
      from,
      '--to',
      `nix+file://${theirs}`,
      '--json',
      app,
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ paths: [], signed: 1 });
    const narInfo = readFileSync(join(theirs, `${storePathOf('app').hashText}.narinfo`), 'utf8');
    expect(narInfo).toMatch(/^URL: nar\/.*\.nar\.xz$/m);
    expect(narInfo.match(/^Sig: key-1:/gm)).toHaveLength(1);
  });

  test('leaves a narinfo only of what has its NAR, and no cache of another store', async () => {
    const { nix, cache, app, copy } = await place();
    const store = localStore(join(nix.home, 'from'));
    const info = (await store.pathInfos.get(storePathOf('app').hash))!;
    await store.pathInfos.put({ ...info, narSha256: new Uint8Array(32) });
    await store.close();
    const { status, stdout, stderr } = await copy();
    expect(stderr).toContain('NAR hash');
    expect(status).toBe(1);
    expect(stdout).not.toContain(app);
    const files = [...readdirSync(cache), ...readdirSync(join(cache, 'nar'))];
    expect(files.filter((name) => name.includes('.tmp-'))).toEqual([]);
    expect(files).not.toContain(`${storePathOf('app').hashText}.narinfo`);
    expect(readFileSync(join(cache, 'nix-cache-info'), 'utf8')).toContain('StoreDir: /nix/store\n');
    writeFileSync(join(cache, 'nix-cache-info'), 'StoreDir: /gnu/store\n');
    expect((await copy()).stderr).toContain('/gnu/store');
  });
});
