// Writes the initial file system of the guest of scripts/qemu-guest: busybox, kernel modules, and a script that
// is run with /bin/sh before the guest is switched off.   node scripts/initramfs.ts CACHE SCRIPT OUT
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** In the order in which they are loaded. */
const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'fuse',
  'virtiofs',
  'overlay',
].map((name) => `${name}.ko`);
const DIRECTORY = 0o040755;
const EXECUTABLE = 0o100755;
const CONSOLE = 0o020600;

const [cache, script, out] = process.argv.slice(2) as [string, string, string];
const modules = MODULES.filter((name) => existsSync(join(cache, 'modules', name)));
const init = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
${modules.map((name) => `insmod /lib/${name}`).join('\n')}
sh /script
poweroff -f
`;
const parts: Buffer[] = [];

for (const name of ['bin', 'dev', 'lib', 'mnt', 'proc', 'sys', 'tmp']) add(name, DIRECTORY);
add('dev/console', CONSOLE, '', [5, 1]);
add('bin/busybox', EXECUTABLE, readFileSync(join(cache, 'busybox')));
for (const name of modules) add(`lib/${name}`, EXECUTABLE, readFileSync(join(cache, 'modules', name)));
add('init', EXECUTABLE, init);
add('script', EXECUTABLE, readFileSync(script));
add('TRAILER!!!', 0);
writeFileSync(out, Buffer.concat(parts));

/** Appends an entry in the format "newc" of cpio. */
function add(name: string, mode: number, contents: string | Buffer = '', device = [0, 0]): void {
  const data = typeof contents === 'string' ? Buffer.from(contents) : contents;
  const path = Buffer.from(`${name}\0`);
  const fields = [parts.length, mode, 0, 0, 1, 0, data.length, 0, 0, ...device, path.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  parts.push(
    Buffer.concat([Buffer.from(header), path, padding(110 + path.length), data, padding(data.length)]),
  );
}

function padding(length: number): Buffer {
  return Buffer.alloc(-length & 3);
}
