import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Experiment } from './experiment.ts';
import { importPath, run, Service } from './processes.ts';
import { median } from './statistics.ts';

const QEMU_GUEST = join(import.meta.dirname, '../scripts/qemu-guest');
/** Debian's, of the package qemu-system-common; newer ones are another program. */
const VIRTIOFSD = '/usr/lib/qemu/virtiofsd';
/** Passes in a guest: each finds its caches empty. */
const PASSES = 7;

/** The column of another server of the same tree. */
export const GUEST_COLUMN = 'virtiofsd';

/** What a virtual machine sees of the store. */
export const guestExperiments: readonly Experiment[] = [
  {
    name: 'guest',
    columns: ['tvix-store', GUEST_COLUMN],
    mostRounds: 3,
    lines: {
      read: {
        title: 'guest: cold read of 256 MiB',
        unit: 'MB/s',
        goal: { atLeast: 1, of: GUEST_COLUMN },
      },
      list: {
        title: 'guest: cold ls -l of 1 000 entries',
        unit: 'ms',
        goal: { atMost: 1, of: GUEST_COLUMN },
      },
    },
    async measure(column, workspace) {
      if (column === GUEST_COLUMN && !existsSync(VIRTIOFSD)) throw new Error(`${VIRTIOFSD} is not there`);
      const { root, size } = await workspace.guestTree();
      const folder = workspace.freshFolder();
      const socket = join(folder, 'socket');
      let tree = 'tree';
      let service: Service;
      if (column === GUEST_COLUMN) {
        // It shows what it is given as the root of the file system: the tree lies one below, as in ours.
        const shared = [`--socket-path=${socket}`, '-o', `source=${join(root, '..')}`, '-o', 'cache=always'];
        service = await Service.launch(['-f', ...shared], 'virtio_session_mount: Waiting', VIRTIOFSD);
      } else {
        const store = workspace.freshFolder();
        tree = await importPath(store, root);
        service = await Service.launch(
          ['virtiofs', '--store', `local://${store}`, socket],
          'info: listening',
        );
      }
      try {
        const { reads, lists } = await inGuest(socket, tree, folder);
        return { read: size / median(reads) / 1e6, list: median(lists) * 1e3 };
      } finally {
        await service.stop();
      }
    },
  },
];

/** Seconds that each pass took in a guest. Its kernel's log has a clock that is fine enough. */
async function inGuest(
  socket: string,
  tree: string,
  folder: string,
): Promise<{ reads: number[]; lists: number[] }> {
  const script = join(folder, 'script');
  const passes = (name: string, command: string) => `
    for i in $(seq ${PASSES}); do
      echo 3 >/proc/sys/vm/drop_caches
      echo begin ${name} >/dev/kmsg
      ${command}
      echo end ${name} >/dev/kmsg
    done`;
  writeFileSync(
    script,
    `mount -t virtiofs -o ro store /mnt
    cd /mnt/${tree}
    ${passes('read', 'dd if=large of=/dev/null bs=1M 2>/dev/null')}
    ${passes('list', 'ls -l many >/dev/null')}
    dmesg | grep -E 'begin|end'`,
  );
  const said = await run(QEMU_GUEST, [script, socket, '-no-reboot']);
  const taken = (name: string) => {
    const times = (word: string) =>
      [...said.matchAll(new RegExp(`\\[ *(\\d+\\.\\d+)\\] ${word} ${name}\\b`, 'g'))].map(([, at]) =>
        Number(at),
      );
    const ends = times('end');
    return times('begin').map((at, i) => ends[i]! - at);
  };
  const [reads, lists] = [taken('read'), taken('list')];
  if (reads.length !== PASSES || lists.length !== PASSES) throw new Error('the guest did not do its work');
  return { reads, lists };
}
