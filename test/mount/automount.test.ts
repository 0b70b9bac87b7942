import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { tempDir } from '../helpers/temp.ts';

/**
 * Does as systemd does for x-systemd.automount: lists a directory where nothing is mounted yet, has a command mount there
 * meanwhile, and unmounts all. Processes of its own group alone may pass to that place before the mount is there.
 */
const AUTOMOUNT = `
import ctypes, fcntl, os, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
at, command = sys.argv[1], sys.argv[2:]
os.setpgid(0, 0)
asked, kernel = os.pipe()
options = f'fd={kernel},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct'
if libc.mount(b'systemd-1', at.encode(), b'autofs', 0, options.encode()) != 0: sys.exit(os.strerror(ctypes.get_errno()))
os.close(kernel)
try:
    root = os.open(at, os.O_RDONLY)
    reader = subprocess.Popen(['ls', at], start_new_session=True)
    _, _, token, _ = struct.unpack_from('<iIII', os.read(asked, 304))
    mounted = subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    READY, FAIL = 0x9360, 0x9361
    fcntl.ioctl(root, READY if mounted else FAIL, token)
    reader.wait()
finally:
    for flags in (0, 2, 2): libc.umount2(at.encode(), flags)
`;

const isRoot = process.getuid!() === 0;
const knowsAutofs = readFileSync('/proc/filesystems', 'utf8').includes('autofs');
test.runIf(isRoot && knowsAutofs)('is mounted by systemd when somebody first looks', async () => {
  const [dir, at] = [tempDir(), tempDir()];
  writeFileSync(join(dir, 'file'), 'contents');
  const store = `local://${dir}/store`;
  const { stdout } = await tvixStore(['import', '--store', store, join(dir, 'file')]);
  const args = ['--background', '--log-file', join(dir, 'log'), '--store', store, '--list-root', at];
  const looked = await run('python3', ['-c', AUTOMOUNT, at, process.execPath, CLI, 'mount', ...args], {
    timeout: 30_000,
  });
  expect(`/nix/store/${looked.stdout}`).toBe(stdout);
});
