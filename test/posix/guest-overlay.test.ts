import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { HAS_GUESTS, LONGEST_MS, Machine } from '../helpers/machine.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

test.runIf(HAS_GUESTS)(
  'an overlay over it in a guest does what one over files of the guest does',
  { timeout: LONGEST_MS },
  async () => {
    const tree = join(tempDir(), 'tree');
    const same = () => file('the same');
    const inner = directory({ c: same(), d: same(), none: file('') });
    writeTree(tree, directory({ a: same(), b: same(), empty: file(''), none: file(''), sub: inner }));
    const store = `local://${join(tempDir(), 'store')}`;
    const { stdout } = await tvixStore(['import', '--store', store, tree]);
    const server = await TestVirtiofs.start(['--store', store]);
    const machine = new Machine(
      server.socket,
      `mount -t tmpfs tmpfs /tmp
    mount -t virtiofs -o ro store /mnt
    cp -a /mnt/${stdout.trim().slice('/nix/store/'.length)} /tmp/plain
    change() {
      echo more >>a && chmod 700 empty && mv b sub/b && ln sub/d link && rm sub/c && echo new >sub/new
      mv sub moved && echo more >>link && truncate -s 3 moved/b
    }
    show() {
      find . | sort | while read -r name; do
        echo "$1: $(stat -c '%n %F %a' "$name") $([ -d "$name" ] || stat -c '%s %h' "$name") $([ -d "$name" ] || cat "$name")"
      done
      echo "$1: files $(find . -type f -exec stat -c %i {} + | sort -u | wc -l)"
    }
    for kind in mnt/${stdout.trim().slice('/nix/store/'.length)} tmp/plain; do
      for options in index=off index=on,xino=on metacopy=on,redirect_dir=on; do
        mkdir -p /tmp/changes /tmp/work /tmp/top
        layers=lowerdir=/$kind,upperdir=/tmp/changes,workdir=/tmp/work,$options
        mount -t overlay -o $layers overlay /tmp/top
        cd /tmp/top && change
        show "${'$'}{kind%%/*} $options before" | grep -v files
        cd / && umount /tmp/top && mount -t overlay -o $layers overlay /tmp/top && cd /tmp/top
        show "${'$'}{kind%%/*} $options after"
        cd / && umount /tmp/top && rm -rf /tmp/changes /tmp/work
      done
    done
    umount /mnt`,
      ['-no-reboot'],
      {},
    );
    await machine.off();
    const lines = (kind: string) =>
      machine.console.split('\n').flatMap((line) => (line.startsWith(kind) ? [line.slice(kind.length)] : []));
    expect(lines('mnt ')).toEqual(lines('tmp '));
    // Three overlays, each shown twice: the directories, the files, and how many of them there are once.
    expect(lines('mnt ').length).toBe(3 * (2 * 10 + 1));
    await server.stop();
  },
);
