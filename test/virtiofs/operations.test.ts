import { join } from 'node:path';
import { expect, test } from 'vitest';
import { OP } from '../../src/fuse/opcodes.ts';
import { tvixStore } from '../helpers/cli.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

/** Operations without an answer. */
const SILENT: readonly number[] = [OP.FORGET, OP.BATCH_FORGET, OP.INTERRUPT];
/** Numbers that no kernel of today knows. */
const UNKNOWN = [0, 7, 54, 63, 64, 65, 191, 192, 4095, 2 ** 31, 2 ** 32 - 1];

test('whatever a guest asks is answered or let be, and counted by its name', async () => {
  const store = `local://${join(tempDir(), 'store')}`;
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ file: file('contents') }));
  const name = (await tvixStore(['import', '--store', store, tree])).stdout
    .trim()
    .slice('/nix/store/'.length);
  const server = await TestVirtiofs.start(['--store', store]);
  await server.mounted(async (guest) => {
    for (const opcode of [...Object.values(OP), ...UNKNOWN]) {
      // Without arguments: what an operation lacks is no reason to fail more than that.
      if (!SILENT.includes(opcode) && opcode !== OP.INIT) await guest.ask(opcode, 1, Buffer.alloc(0), 512);
    }
    await guest.ask(OP.INTERRUPT, 1, Buffer.alloc(0), -1);
    expect(guest.hasFailed()).toBe(false);
    const { error, body } = await guest.read(await guest.lookUp(name, 'file'), 0, 100);
    expect([error, body.toString()]).toEqual([0, 'contents']);
  });
  const { log } = await server.stop();
  const kinds = new Map(
    /kinds="([^"]*)"/
      .exec(log)![1]!
      .split(', ')
      .map((kind) => kind.split(' ') as [string, string]),
  );
  for (const known of ['statx', 'tmpfile', 'syncfs', 'setupmapping', 'removemapping', 'copy_file_range_64']) {
    expect([known, kinds.get(known)]).toEqual([known, '1']);
  }
  for (const opcode of [0, 7, 54, 63, 64, 65, 191]) expect(kinds.get(`op${opcode}`)).toBe('1');
  // CUSE_INIT is one of them: it comes to character devices only.
  expect(kinds.get('other')).toBe('5');
});
