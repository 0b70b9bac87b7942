import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { access, lstat, open, readdir, readFile, readlink, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { NATIVE_LIMITS } from '../../src/fuse/native.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestMount } from '../helpers/mount.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';

/** A tree with one of everything. */
function makeTree(dir: string): void {
  mkdirSync(join(dir, 'deep/er/est'), { recursive: true });
  mkdirSync(join(dir, 'empty'));
  mkdirSync(join(dir, 'many'));
  for (let i = 0; i < 2000; i++) writeFileSync(join(dir, `many/file-${i}`), `contents ${i}`);
  writeFileSync(join(dir, 'deep/er/est/leaf'), 'leaf');
  writeFileSync(join(dir, 'nothing'), '');
  writeFileSync(join(dir, 'script'), '#!/bin/sh\necho ran "$@"\n');
  chmodSync(join(dir, 'script'), 0o755);
  // The same bytes, not executable: another file to a kernel.
  writeFileSync(join(dir, 'script.txt'), '#!/bin/sh\necho ran "$@"\n');
  writeFileSync(join(dir, 'large'), largeContents());
  symlinkSync('deep/er/est/leaf', join(dir, 'link'));
  symlinkSync('/nowhere', join(dir, 'dangling'));
  symlinkSync('loop', join(dir, 'loop'));
  symlinkSync('x'.repeat(4000), join(dir, 'long-link'));
  writeFileSync(join(dir, 'a'.repeat(255)), 'long name');
  mkdirSync(join(dir, 'bytes'));
  writeFileSync(Buffer.concat([Buffer.from(`${dir}/bytes/`), NOT_UTF8]), 'bytes');
  symlinkSync(NOT_UTF8, join(dir, 'bytes/link'));
}

const NOT_UTF8 = Buffer.from('not-utf8-\xff\xfe', 'latin1');

/** 5 MB that neither compress nor repeat: several chunks. */
function largeContents(): Buffer {
  const bytes = Buffer.alloc(5_000_000);
  let state = 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}

describe.each(DRIVERS)('the mounted tree, driver %s', (driver) => {
  const limits: readonly string[] = driver === 'fuse-native' ? NATIVE_LIMITS : [];
  /** A test that a driver may declare itself unable to pass, by name. */
  const unless = (limit: string) => (limits.includes(limit) ? test.skip : test);
  const source = join(tempDir(), 'tree');
  const store = `local://${tempDir()}/store`;
  let mounted: TestMount;
  let root: string;

  beforeAll(async () => {
    mkdirSync(source);
    makeTree(source);
    const { stdout } = await tvixStore(['import', '--store', store, source]);
    mounted = await mount(['--store', store, '--driver', driver, '--list-root', '--show-xattr']);
    root = join(mounted.dir, stdout.trim().slice('/nix/store/'.length));
  });

  test('shows modes, owners, times and sizes as a store has them', async () => {
    const cases = [
      ['script', 0o100555, 24],
      ['script.txt', 0o100444, 24],
      ['link', 0o120777, 16],
      ['empty', 0o040555, undefined],
    ] as const;
    for (const [name, mode, size] of cases) {
      const found = await lstat(join(root, name));
      expect([name, found.mode.toString(8)]).toEqual([name, mode.toString(8)]);
      if (size !== undefined) expect(found.size).toBe(size);
      expect([found.uid, found.gid, found.mtimeMs]).toEqual([0, 0, 1000]);
      expect(found.nlink).toBeGreaterThanOrEqual(1);
    }
    expect((await stat(join(root, 'large'))).blocks).toBe(Math.ceil(5_000_000 / 512));
  });

  test('lists exactly what is there, with . and .. and the right types', async () => {
    const entries = await readdir(root, { withFileTypes: true });
    const types = new Map(entries.map((entry) => [entry.name, entry]));
    expect(types.get('deep')!.isDirectory()).toBe(true);
    expect(types.get('link')!.isSymbolicLink()).toBe(true);
    expect(types.get('nothing')!.isFile()).toBe(true);
    expect((await readdir(join(root, 'many'))).sort()).toEqual((await readdir(join(source, 'many'))).sort());
    expect(await readdir(join(root, 'empty'))).toEqual([]);
    const { stdout } = await run('ls', ['-a', join(root, 'empty')]);
    expect(stdout).toBe('.\n..\n');
  });

  test('gives d_type to those who ask for no attributes', async () => {
    const { stdout } = await run('find', [root, '-maxdepth', '1', '-type', 'l', '-printf', '%f\n']);
    expect(stdout.trim().split('\n').sort()).toEqual(['dangling', 'link', 'long-link', 'loop']);
  });

  unless('names that are not UTF-8')('serves names that are not UTF-8', async () => {
    const name = Buffer.concat([Buffer.from(`${root}/bytes/`), NOT_UTF8]);
    expect(await readFile(name, 'utf8')).toBe('bytes');
  });

  test('never gives another target of a link that is not UTF-8', async () => {
    const target = readlink(join(root, 'bytes/link'), { encoding: 'buffer' });
    if (limits.includes('names that are not UTF-8'))
      await expect(target).rejects.toMatchObject({ code: 'EIO' });
    else expect(await target).toEqual(NOT_UTF8);
  });

  unless('names that are not UTF-8')('equals the original byte for byte', async () => {
    expect(await run('diff', ['-r', '--no-dereference', source, root])).toMatchObject({
      status: 0,
      stdout: '',
    });
  });

  test('reads at, across and past the end', async () => {
    const file = await open(join(root, 'script'));
    const buffer = Buffer.alloc(100);
    expect((await file.read(buffer, 0, 100, 20)).bytesRead).toBe(4);
    expect((await file.read(buffer, 0, 100, 24)).bytesRead).toBe(0);
    expect((await file.read(buffer, 0, 100, 1_000_000)).bytesRead).toBe(0);
    await file.close();
    expect(await readFile(join(root, 'nothing'))).toHaveLength(0);
  });

  test('reads anywhere in a file of several chunks', async () => {
    const contents = largeContents();
    const file = await open(join(root, 'large'));
    for (const [offset, length] of [
      [0, 1],
      [131_071, 2],
      [262_144, 70_000],
      [524_287, 1_100_000],
      [4_999_990, 100],
    ]) {
      const buffer = Buffer.alloc(length!);
      const { bytesRead } = await file.read(buffer, 0, length!, offset!);
      expect(buffer.subarray(0, bytesRead).equals(contents.subarray(offset!, offset! + length!))).toBe(true);
    }
    await file.close();
    expect((await readFile(join(root, 'large'))).equals(contents)).toBe(true);
  });

  test('runs programs, follows links and maps files', async () => {
    expect((await run(join(root, 'script'), ['it'])).stdout).toBe('ran it\n');
    await expect(access(join(root, 'script.txt'), 1)).rejects.toMatchObject({ code: 'EACCES' });
    expect(await readFile(join(root, 'link'), 'utf8')).toBe('leaf');
    expect(await readlink(join(root, 'link'))).toBe('deep/er/est/leaf');
    expect(await readlink(join(root, 'long-link'))).toBe('x'.repeat(4000));
    // Python maps, seeks in directories and sends files: Node cannot.
    const script = `
import mmap, os, sys
root = sys.argv[1]
with open(root + '/large', 'rb') as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
    assert m[4999999] == open(root + '/large', 'rb').read()[4999999]
    r, w = os.pipe()
    assert os.sendfile(w, f.fileno(), 1000, 5000) == 5000
    assert os.read(r, 5000) == m[1000:6000]
`;
    expect(await run('python3', ['-c', script, root])).toMatchObject({ status: 0, stderr: '' });
  });

  test('continues a listing where it was left', async () => {
    const script = `
import ctypes, ctypes.util, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
class Dirent(ctypes.Structure):
    _fields_ = [('ino', ctypes.c_ulong), ('off', ctypes.c_long), ('len', ctypes.c_ushort), ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]
libc.readdir.restype = ctypes.POINTER(Dirent)
d = ctypes.c_void_p(libc.opendir(sys.argv[1].encode()))
names, positions = [], []
while True:
    positions.append(libc.telldir(d))
    e = libc.readdir(d)
    if not e: break
    names.append(e.contents.name)
assert len(names) == 2002, len(names)
for i in (1500, 3, 1999, 700, 0):
    libc.seekdir(d, ctypes.c_long(positions[i]))
    assert libc.readdir(d).contents.name == names[i], i
libc.rewinddir(d)
assert libc.readdir(d).contents.name == names[0]
`;
    expect(await run('python3', ['-c', script, join(root, 'many')])).toMatchObject({ status: 0, stderr: '' });
  });

  test('says what POSIX says about what is not there', async () => {
    const failures = [
      [join(root, 'nope'), 'ENOENT'],
      [join(root, 'nothing/nope'), 'ENOTDIR'],
      [join(root, 'loop'), 'ELOOP'],
      [join(root, 'dangling'), 'ENOENT'],
      [join(mounted.dir, 'not-a-store-path'), 'ENOENT'],
      [join(mounted.dir, `${'0'.repeat(32)}-absent`), 'ENOENT'],
      [`${root.slice(0, -4)}other`, 'ENOENT'],
    ] as const;
    for (const [path, code] of failures) await expect(stat(path), path).rejects.toMatchObject({ code });
  });

  test('says that a name is too long', async () => {
    await expect(stat(join(root, 'n'.repeat(256)))).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
  });

  test('cannot be written to', async () => {
    const attempts = [
      ['touch', join(root, 'new')],
      ['mkdir', join(root, 'new')],
      ['rm', '-f', join(root, 'nothing')],
      ['ln', '-s', 'x', join(root, 'new')],
      ['mv', join(root, 'nothing'), join(root, 'new')],
      ['chmod', '700', join(root, 'nothing')],
      ['truncate', '-s', '1', join(root, 'nothing')],
    ];
    for (const [command, ...args] of attempts) {
      const { status, stderr } = await run(command!, args);
      expect([command, status !== 0, stderr]).toEqual([
        command,
        true,
        expect.stringContaining('Read-only file system'),
      ]);
    }
    await expect(open(join(root, 'script'), 'r+')).rejects.toMatchObject({ code: 'EROFS' });
  });

  test('has the directory .links for Nix, empty, read-only, and in no listing', async () => {
    const links = join(mounted.dir, '.links');
    expect((await lstat(links)).isDirectory()).toBe(true);
    expect(await readdir(links)).toEqual([]);
    expect(await readdir(mounted.dir)).not.toContain('.links');
    await expect(open(join(links, 'link'), 'w')).rejects.toMatchObject({ code: 'EROFS' });
  });

  test('knows the size of its file system', async () => {
    const usage = await statfs(mounted.dir);
    expect(usage.bsize).toBeGreaterThan(0);
    expect(usage.blocks).toBeGreaterThan(0);
    expect((await run('df', [mounted.dir])).status).toBe(0);
  });

  test('gives every place an inode number of its own, in listings as well', async () => {
    const numberOf = async (path: string) => (await lstat(join(root, path), { bigint: true })).ino;
    expect(await numberOf('script')).toBe(await numberOf('script'));
    const paths = ['deep', 'deep/er', 'deep/er/est', 'empty', 'many', 'link', 'loop', 'script', 'script.txt'];
    const all = await Promise.all(paths.map(numberOf));
    expect(new Set(all).size).toBe(all.length);
    const { stdout } = await run('ls', ['-i', '--sort=none', root]);
    const script = stdout.split('\n').find((line) => line.endsWith(' script'))!;
    expect(script.trim().split(' ')[0]).toBe(String(await numberOf('script')));
  });

  unless('time of birth')('tells a time of birth, as all times are', async () => {
    expect((await run('stat', ['-c', '%W %Y', join(root, 'script')])).stdout).toBe('1 1\n');
  });

  test('opens no other file by the handle of one', async () => {
    const script = `
import ctypes, errno, glob, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [('bytes', ctypes.c_uint), ('type', ctypes.c_int), ('data', ctypes.c_ubyte * 128)]
def handle(path):
    made, mount = Handle(bytes=128), ctypes.c_int()
    if libc.name_to_handle_at(-100, path.encode(), ctypes.byref(made), ctypes.byref(mount), 0) == 0: return made
    assert ctypes.get_errno() == errno.EOPNOTSUPP, os.strerror(ctypes.get_errno())
paths = sorted(glob.glob(sys.argv[1] + '/many/*'))
handles = [handle(path) for path in paths[:200]]
open('/proc/sys/vm/drop_caches', 'w').write('2')
for path in reversed(paths): os.stat(path)
top = os.open(sys.argv[1], os.O_RDONLY)
for made, path in zip(handles, paths):
    if made is None: continue
    fd = libc.open_by_handle_at(top, ctypes.byref(made), os.O_RDONLY)
    assert fd < 0 and ctypes.get_errno() == errno.ESTALE or os.read(fd, 99) == open(path, 'rb').read(), path
`;
    expect(await run('python3', ['-c', script, root])).toMatchObject({ status: 0, stderr: '' });
  });

  test('shows castore digests as extended attributes, under both names', async () => {
    const script = `
import os, sys
root = sys.argv[1]
print(sorted(os.listxattr(root + '/script')), os.getxattr(root + '/script', 'user.snix.castore.blob.digest').decode())
print(os.getxattr(root, 'user.tvix.castore.directory.digest').decode()[:3])
try: os.getxattr(root + '/script', 'user.cheesecake')
except OSError as e: print(e.errno)
`;
    const { stdout } = await run('python3', ['-c', script, root]);
    const listed = JSON.parse(
      (await tvixStore(['ls', '--json', '--store', store, root.split('/').pop()!])).stdout
        .split('\n')
        .find((line) => line.includes('"script"'))!,
    );
    expect(stdout).toBe(
      `['user.snix.castore.blob.digest', 'user.tvix.castore.blob.digest'] ${listed.digest}\nb3:\n61\n`,
    );
  });

  test('can be walked by find, tar and rsync', async () => {
    expect((await run('find', [root, '-newermt', '@2'])).stdout).toBe('');
    // A dry run by checksums names whatever differs.
    const rsync = await run('rsync', [
      '-rlcn',
      '--exclude=/bytes',
      '--out-format=%n',
      `${source}/`,
      `${root}/`,
    ]);
    expect(rsync).toMatchObject({ status: 0, stdout: '' });
    const tar = await run('sh', ['-c', `tar -C ${root} -cf - . | tar -tf - | wc -l`]);
    const entries = execFileSync('sh', ['-c', `find ${source} | wc -l`]).toString();
    expect(Number(tar.stdout)).toBe(Number(entries) - (limits.includes('names that are not UTF-8') ? 2 : 0));
  });

  test('has a clean repository for git', async () => {
    const repository = join(tempDir(), 'repository');
    const git = (...args: string[]) =>
      run('git', [
        '-c',
        'user.name=t',
        '-c',
        'user.email=t@example.org',
        '-c',
        'safe.directory=*',
        '-C',
        repository,
        ...args,
      ]);
    mkdirSync(repository);
    await git('init', '-q');
    writeFileSync(join(repository, 'file'), 'contents');
    await git('add', '.');
    await git('commit', '-qm', 'first');
    const { stdout } = await tvixStore(['import', '--store', store, repository]);
    const there = join(mounted.dir, stdout.trim().split('/').pop()!);
    const check = await run('git', ['-c', 'safe.directory=*', '-C', there, 'fsck', '--full', '--strict']);
    expect([check.status, check.stdout]).toEqual([0, '']);
  });

  test('finds a store path that another process imports later, and lists it', async () => {
    const later = join(tempDir(), 'later');
    writeFileSync(later, 'new');
    const before = await readdir(mounted.dir);
    const { stdout } = await tvixStore(['import', '--store', store, later]);
    const name = stdout.trim().split('/').pop()!;
    expect(await readFile(join(mounted.dir, name), 'utf8')).toBe('new');
    await expect.poll(() => readdir(mounted.dir)).toContain(name);
    expect(await readdir(mounted.dir)).toEqual(expect.arrayContaining(before));
    // A link and a file as roots of store paths.
    const { stdout: linked } = await tvixStore(['import', '--store', store, join(source, 'link')]);
    expect(await readlink(join(mounted.dir, linked.trim().split('/').pop()!))).toBe('deep/er/est/leaf');
  });

  test('serves many readers at once', async () => {
    const names = await readdir(join(root, 'many'));
    const contents = await Promise.all(names.map((name) => readFile(join(root, 'many', name), 'utf8')));
    expect(contents).toEqual(names.map((name) => `contents ${name.slice('file-'.length)}`));
  });
});

test('the root cannot be listed unless asked for, and asking for attributes is not supported', async () => {
  const store = `local://${tempDir()}/store`;
  const file = join(tempDir(), 'file');
  writeFileSync(file, 'contents');
  const { stdout } = await tvixStore(['import', '--store', store, file]);
  const { dir } = await mount(['--store', store, '--readers', '2']);
  await expect(readdir(dir)).rejects.toMatchObject({ code: 'EPERM' });
  const path = join(dir, stdout.trim().split('/').pop()!);
  expect(await readFile(path, 'utf8')).toBe('contents');
  expect((await run('python3', ['-c', `import os; os.listxattr('${path}')`])).stderr).toContain(
    'not supported',
  );
});
