import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { tempDir } from '../helpers/temp.ts';

/** Lists a mount, before and after something is imported, where nobody may watch a directory. */
const SCRIPT = `
echo 0 >/proc/sys/user/max_inotify_instances
store=$1 at=$2 file=$3; shift 3
"$@" mount --background --log-file "$at.log" --store "$store" --list-root "$at" >/dev/null || exit
ls "$at"
"$@" import --store "$store" --name second "$file" >/dev/null
ls "$at"
umount "$at"
`;

/** A user of its own, who has limits of its own and mounts that nobody else sees. */
const OWN_USER = ['unshare', '-U', '-r', '-m'];
const mayHave = spawnSync(OWN_USER[0]!, [...OWN_USER.slice(1), 'test', '-w', '/dev/fuse']).status === 0;
test.runIf(mayHave)('lists what there is, though the store cannot be watched', async () => {
  const [dir, at] = [tempDir(), tempDir()];
  const file = join(dir, 'file');
  writeFileSync(file, 'contents');
  const store = `local://${dir}/store`;
  await tvixStore(['import', '--store', store, '--name', 'first', file]);
  const words = [...OWN_USER.slice(1), 'sh', '-c', SCRIPT, 'sh', store, at, file, process.execPath, CLI];
  const { stdout, stderr } = await run(OWN_USER[0]!, words, { timeout: 30_000 });
  expect(stderr).toContain('cannot watch the store');
  expect(
    stdout
      .replace(/\w{32}-/g, '')
      .split('\n')
      .sort(),
  ).toEqual(['', 'first', 'first', 'second']);
});
