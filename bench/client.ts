/**
 * One user of a file system, in a process of its own: whoever serves a mount must not wait for it.
 *
 *   client.ts OPERATION REHEARSAL ROOT LIST PASSES
 *
 * runs the operation once in REHEARSAL, untimed, then PASSES times in ROOT, and prints the median seconds
 * of a pass. LIST holds NUL-terminated paths relative to the root. The system calls go through koffi,
 * which adds less than `fs` does: what the client itself takes hides what it measures.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import { median } from './statistics.ts';

const library = koffi.load('libc.so.6');
const open = library.func('int open(uintptr_t path, int flags)');
const read = library.func('int64_t read(int fd, uintptr_t buffer, size_t length)');
const close = library.func('int close(int fd)');
const statx = library.func(
  'int statx(int directory, uintptr_t path, int flags, unsigned int mask, uintptr_t out)',
);
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const STATX_BASIC_STATS = 0x7ff;

const [operation, rehearsal, root, list, passes] = process.argv.slice(2) as [
  keyof typeof operations,
  string,
  string,
  string,
  string,
];

/** Exported so that it lives as long as the addresses that point into it. */
export const names = readFileSync(list);
const paths: number[] = [];
for (let start = 0; start < names.length; start = names.indexOf(0, start) + 1) {
  paths.push(Number(koffi.address(names)) + start);
}
const buffer = new Uint8Array(2 ** 20);
const bufferAddress = Number(koffi.address(buffer));

const operations = {
  stat() {
    for (const path of paths) {
      if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, bufferAddress) < 0) fail('stat');
    }
  },
  ls: () => ls('-lR'),
  'ls-names': () => ls('-f'),
  'ls-entries': () => ls('-l'),
  read() {
    for (const path of paths) {
      const file = open(path, 0);
      if (file < 0) fail('open');
      let count: number;
      do {
        count = read(file, bufferAddress, buffer.length);
        if (count < 0) fail('read');
      } while (count > 0);
      close(file);
    }
  },
  /** What a small file takes at least: one read, no second one that finds the end. */
  'read-once'() {
    for (const path of paths) {
      const file = open(path, 0);
      if (file < 0) fail('open');
      if (read(file, bufferAddress, 4096) < 0) fail('read');
      close(file);
    }
  },
};

function ls(flag: string): void {
  const { status } = spawnSync('ls', [flag], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (status !== 0) throw new Error(`ls exited with ${status}`);
}

function fail(call: string): never {
  throw new Error(`${call}: errno ${koffi.errno()}`);
}

function timed(run: () => void): number {
  const start = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - start) / 1e9;
}

try {
  const run = operations[operation];
  process.chdir(rehearsal);
  run();
  process.chdir(root);
  console.log(median(Array.from({ length: Number(passes) }, () => timed(run))));
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
