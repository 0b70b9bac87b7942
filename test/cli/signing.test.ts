import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { encodeRoot } from '../../src/castore/node-message.ts';
import { SecretKey } from '../../src/nix/key.ts';
import { NarInfo } from '../../src/nix/narinfo/narinfo.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { all, localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const KEY = SecretKey.generate('test-1');
const OTHER = SecretKey.generate('test-2');
const dir = tempDir();
const keyFile = join(dir, 'key');
const otherKeyFile = join(dir, 'other-key');
const tree = join(dir, 'tree');

beforeAll(() => {
  writeFileSync(keyFile, `${KEY.secret()}\n`, { mode: 0o600 });
  writeFileSync(otherKeyFile, `${OTHER.secret()}\n`, { mode: 0o600 });
  mkdirSync(tree);
  writeFileSync(join(tree, 'a'), 'contents');
});

/** Runs a command on a store; gives the lines it printed. */
async function lines(...args: string[]): Promise<string[]> {
  const { status, stdout, stderr } = await tvixStore(args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout.trim().split('\n');
}

let count = 0;
const newStore = () => `local://${dir}/store-${count++}`;

/** What the first key signs: for Nix, and over the castore root. */
const BOTH = ['test-1', 'test-1.castore'];

async function signers(store: string): Promise<string[][]> {
  const json = JSON.parse((await lines('path-info', '--json', '--store', store)).join(''));
  return Object.values(json as Record<string, { signatures: string[] }>).map(({ signatures }) =>
    signatures.map((text) => text.split(':')[0]!).sort(),
  );
}

describe('signing', () => {
  test.each([
    ['a flag of import', (store: string) => ['--store', store, '--signing-key-file', keyFile]],
    ['a parameter of the address', (store: string) => ['--store', `${store}?signing-key-file=${keyFile}`]],
  ])('is done by %s', async (_, flags) => {
    const store = newStore();
    await lines('import', ...flags(store), tree);
    expect(await signers(store)).toEqual([BOTH]);
    await lines('import', ...flags(store), tree);
    expect(await signers(store)).toEqual([BOTH]);
  });

  test('is done by a daemon for what is uploaded to it', async () => {
    const store = newStore();
    const daemon = await startDaemon(store, `${dir}/socket`, ['--signing-key-file', keyFile]);
    await lines('import', '--store', daemon.url, tree);
    expect(await daemon.stop()).toBe(0);
    expect(await signers(store)).toEqual([BOTH]);
  });

  test('is done on what is in a far store already', async () => {
    const store = newStore();
    await lines('import', '--store', store, tree);
    const daemon = await startDaemon(store, `${dir}/socket-2`);
    await lines('import', '--store', daemon.url, '--signing-key-file', keyFile, tree);
    expect(await daemon.stop()).toBe(0);
    expect(await signers(store)).toEqual([BOTH]);
  });

  test('is taken back by sign --remove, and by nothing else', async () => {
    const store = newStore();
    const [path] = await lines('import', '--store', store, tree);
    await lines('sign', '--store', store, '-k', keyFile, '--all');
    await lines('sign', '--store', store, '-k', otherKeyFile, '--all');
    await lines('import', '--store', store, tree);
    expect(await signers(store)).toEqual([[...BOTH, 'test-2', 'test-2.castore']]);
    expect(await lines('sign', '--store', store, '--remove', 'test-1', '--all')).toEqual([path]);
    expect(await lines('sign', '--store', store, '--remove', 'test-1', '--all')).toEqual(['']);
    expect(await signers(store)).toEqual([['test-2', 'test-2.castore']]);
    const daemon = await startDaemon(store, `${dir}/socket-3`);
    const far = await tvixStore(['sign', '--store', daemon.url, '--remove', 'test-2', '--all']);
    expect(far).toMatchObject({ status: 1, stdout: '' });
    expect(far.stderr).toContain('signatures are taken away only where the store is');
    expect(await daemon.stop()).toBe(0);
    expect(await signers(store)).toEqual([['test-2', 'test-2.castore']]);
  });

  test('is done afterwards by sign, once by each key', async () => {
    const store = newStore();
    const paths = (await lines('import', '--store', store, tree, join(tree, 'a'))).sort();
    expect(await lines('sign', '--store', store, '-k', keyFile, paths[0]!)).toEqual([paths[0]]);
    expect((await lines('sign', '--store', store, '-k', otherKeyFile, '--all')).sort()).toEqual(paths);
    expect(await lines('sign', '--store', store, '-k', keyFile, '--all')).toEqual([paths[1]]);
    expect(await lines('sign', '--store', store, '-k', keyFile, '--all')).toEqual(['']);
    expect(await signers(store)).toEqual([
      [...BOTH, 'test-2', 'test-2.castore'],
      [...BOTH, 'test-2', 'test-2.castore'],
    ]);
  });

  test('warns of a key that others can read, and refuses what is none', async () => {
    const readable = join(dir, 'readable');
    writeFileSync(readable, KEY.secret(), { mode: 0o644 });
    const { stderr } = await tvixStore(['sign', '--store', newStore(), '-k', readable, '--all']);
    expect(stderr).toContain('chmod 600');
    const none = await tvixStore(['import', '--store', newStore(), '--signing-key-file', '/dev/null', tree]);
    expect(none.status).toBe(2);
    expect(none.stderr).toContain('error: cannot use the secret key in /dev/null: not a secret key');
  });
});

describe('verify', () => {
  /** A store of one path, with a path info that a test changes. */
  async function storeWith(change: (info: PathInfo) => Partial<PathInfo>) {
    const store = newStore();
    const [path] = await lines('import', '--store', store, tree);
    const opened = localStore(store.slice('local://'.length));
    for (const info of await all(opened.pathInfos.list())) {
      const { ca: _, ...rest } = info;
      await opened.pathInfos.put({ ...rest, ...change(info) });
    }
    await opened.close();
    return { store, path: path! };
  }

  test('finds everything good', async () => {
    const { store, path } = await storeWith((info) => ({ ca: info.ca!, signatures: [KEY.sign(info)] }));
    const good = ['1 store paths verified, all good'];
    expect(await lines('verify', '--store', store, '--all')).toEqual(good);
    expect(await lines('verify', '--store', store, path, '--no-contents')).toEqual(good);
    const keys = ['--trusted-public-keys', `${KEY.publicKey} ${OTHER.publicKey}`];
    expect(await lines('verify', '--store', store, '--all', ...keys)).toEqual(good);
    expect(JSON.parse((await lines('verify', '--store', store, '--json', '--all')).join(''))).toEqual({
      [path]: { valid: true, problems: [] },
    });
  });

  test('needs a signature by a trusted key, or a content address', async () => {
    const { store, path } = await storeWith((info) => ({ signatures: [OTHER.sign(info)] }));
    const flags = ['verify', '--store', store, '--all', '--trusted-public-keys', `${KEY.publicKey}`];
    const { status, stdout } = await tvixStore(flags);
    expect({ status, stdout }).toEqual({
      status: 1,
      stdout: `${path}: no trusted key has signed it\n1 store paths verified, 1 of them wrong\n`,
    });
    expect(await lines(...flags, `${OTHER.publicKey}`)).toHaveLength(1);
    const addressed = await storeWith((info) => ({ ca: info.ca! }));
    expect(await lines(...flags.with(2, addressed.store))).toHaveLength(1);
  });

  test('takes a signature over the castore root as one, and finds one that is not of these contents', async () => {
    const flags = ['verify', '--all', '--trusted-public-keys', `${KEY.publicKey}`, '--store'];
    const good = await storeWith((info) => ({ signatures: [KEY.signRoot(info, encodeRoot(info.node))] }));
    expect(await lines(...flags, good.store)).toEqual(['1 store paths verified, all good']);
    const wrong = await storeWith((info) => ({
      signatures: [KEY.sign(info), KEY.signRoot(info, Buffer.from('x'))],
    }));
    expect((await tvixStore([...flags, wrong.store])).stdout).toBe(
      `${wrong.path}: the castore signature of test-1 is not that of its contents\n` +
        '1 store paths verified, 1 of them wrong\n',
    );
  });

  test('finds contents that are not what was registered, unless it is not to look', async () => {
    const { store, path } = await storeWith((info) => ({ narSize: info.narSize + 8n }));
    const { status, stdout } = await tvixStore(['verify', '--store', store, '--json', path]);
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toEqual({
      [path]: { valid: false, problems: ['its NAR has 288 bytes, not 296'] },
    });
    expect(await lines('verify', '--store', store, '--all', '--no-contents')).toHaveLength(1);
  });

  test.each([
    [['verify', '--store', 'memory://'], 'give STORE_PATH arguments, or --all'],
    [
      ['sign', '--store', 'memory://', '-k', keyFile, '--all', 'x'],
      'give either STORE_PATH arguments or --all',
    ],
    [
      ['verify', '--store', 'memory://', '--all', '--trusted-public-keys', 'cache'],
      '--trusted-public-keys: not a public key',
    ],
  ])('%j is wrong usage', async (args, message) => {
    const { status, stderr } = await tvixStore(args);
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });
});

describeNix('the real Nix', () => {
  test('takes our signatures', async () => {
    const store = newStore();
    await lines('import', '--store', store, '--signing-key-file', keyFile, tree);
    const cache = join(dir, 'cache');
    mkdirSync(cache);
    writeFileSync(join(cache, 'nix-cache-info'), 'StoreDir: /nix/store\n');
    const opened = localStore(store.slice('local://'.length));
    for (const info of await all(opened.pathInfos.list())) {
      const { ca: _, ...signed } = info;
      const nix = new NixUser();
      const nar = await nix.run('nix-store', ['--dump', tree]);
      writeFileSync(join(cache, 'tree.nar'), nar);
      const text = NarInfo.of({ ...signed, url: 'tree.nar', compression: 'none' } as never).toString();
      writeFileSync(join(cache, `${info.storePath.hashText}.narinfo`), text);
      const verify = ['store', 'verify', '--store', `file://${cache}`, info.storePath.absolute()];
      await nix.run('nix', [...verify, '--trusted-public-keys', `${KEY.publicKey}`]);
      const other = await nix.try('nix', [...verify, '--trusted-public-keys', `${OTHER.publicKey}`]);
      expect(other.stderr).toContain('is untrusted');
    }
    await opened.close();
    expect(readFileSync(keyFile, 'utf8')).toContain('test-1:');
  });
});
