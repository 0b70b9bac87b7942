import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { directoryRow } from '../../src/castore/local/rows.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import type { Node } from '../../src/castore/node.ts';
import { ERRNO } from '../../src/fs/file-system.ts';
import { OP } from '../../src/fuse/opcodes.ts';
import { LocalPathInfoService } from '../../src/store/path-info/local.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

const store = `local://${join(tempDir(), 'store')}`;
const BROKEN = storePathOf('broken').toString();
let sound: string;

/** A path that is there, and one whose directory no program can read. */
beforeAll(async () => {
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ file: file('contents') }));
  sound = (await tvixStore(['import', '--store', store, tree])).stdout.trim().split('/').pop()!;
  const local = LocalStore.open(new URL(store).pathname, 'store');
  const garbage = Buffer.from('no directory at all');
  const digest = Digest.hash(garbage);
  await local.writer.row(local.env.directories, digest.bytes, directoryRow(local.writer.epoch, garbage));
  const node: Node = { kind: 'directory', digest, size: 2n };
  const narSha256 = digest.bytes;
  const told = { node, references: [], narSize: 1n, narSha256, signatures: [] };
  await new LocalPathInfoService(local).put({ storePath: storePathOf('broken'), ...told });
  await local.close();
});

test.each(DRIVERS)(
  'a fault in one request is EIO and a log line to driver %s, which serves on',
  async (driver) => {
    const mounted = await mount(['--store', store, '--driver', driver]);
    for (const path of [join(mounted.dir, BROKEN, 'file'), join(mounted.dir, BROKEN, 'other')]) {
      expect((await run('cat', [path])).stderr).toContain('Input/output error');
    }
    expect((await run('ls', [join(mounted.dir, BROKEN)])).stderr).toContain('Input/output error');
    expect((await run('cat', [join(mounted.dir, sound, 'file')])).stdout).toBe('contents');
    const { status, log } = await mounted.stop();
    expect(status).toBe(0);
    expect(log).toMatch(/^error: a request failed .*invalid protobuf/m);
  },
);

test('a fault in one request of a virtual machine is EIO and a log line, and the device serves on', async () => {
  const server = await TestVirtiofs.start(['--store', store]);
  await server.mounted(async (guest) => {
    const broken = await guest.lookUp(BROKEN);
    expect((await guest.ask(OP.LOOKUP, broken, Buffer.from('file\0'), 128)).error).toBe(-ERRNO.EIO);
    const { body } = await guest.read(await guest.lookUp(sound, 'file'), 0, 100);
    expect(body.toString()).toBe('contents');
    expect(guest.hasFailed()).toBe(false);
  });
  const { status, log } = await server.stop();
  expect(status).toBe(0);
  expect(log).toMatch(/^error: a request failed .*invalid protobuf/m);
});
