#!/usr/bin/env node
// Any version of Node since 12 has to be able to read this file, and to tell that it is too old: nothing is
// imported, and nothing awaited, at the top.

// As long as nobody listens to it, Node opens its debugger, through which every user of this machine could run code here.
// What has come before this line is dealt with below.
process.on('SIGUSR1', () => {});

/** As `engines` in package.json has it. */
const NEEDED = [22, 19] as const;
/** Between two long-term lines; its first releases lack what the needed one has. */
const SKIPPED = 23;

/** The name by which mount(8) calls this program. The helper of fuse3 calls it by its own, but names no command. */
const MOUNT_HELPER = '/mount.fuse.tvix-store';
const ADDRESS = /^[\w+]+:/;

/** Commands that move contents, or go on for long. */
const BULK = [
  'import',
  'mount',
  'virtiofs',
  'daemon',
  'nar-bridge',
  'nix-daemon',
  'nar',
  'copy',
  'warm',
  'backup',
  'restore',
  'realise',
  'realize',
  'cat',
  'verify',
  'fsck',
];

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major > SKIPPED || (major === NEEDED[0] && minor >= NEEDED[1])) void start();
else {
  process.stderr.write(
    `tvix-store needs Node ${NEEDED.join('.')} or newer${major === SKIPPED ? `, and not ${SKIPPED}` : ''}; this is ${process.version} (${process.execPath}). ` +
      'Install one from https://nodejs.org/, and let it come first in PATH.\n',
  );
  process.exitCode = 2;
}

async function start(): Promise<void> {
  const [, program = '', first = ''] = process.argv;
  const isMountHelper = program.endsWith(MOUNT_HELPER) || ADDRESS.test(first);
  if (isMountHelper || process.argv.some((word) => BULK.includes(word))) {
    const { setFlagsFromString } = await import('node:v8');
    // Their heap is small, and what goes through it are buffers outside of it. V8 takes those for a reason to mark the
    // heap bit by bit, without end: two thirds of the processor time of a daemon that sends large files. This comes
    // before the program is loaded: V8 crashes now and then when it has already begun.
    setFlagsFromString('--no-incremental-marking');
    const { closeUnaskedDebugger } = await import('./unasked-debugger.ts');
    closeUnaskedDebugger();
  }
  const { keepCompiledCode } = await import('./compiled-code.ts');
  keepCompiledCode();
  const { endWithOutput } = await import('./output.ts');
  endWithOutput();
  const { endProcess } = await import('./end.ts');
  const { run, runMountHelper } = await import('./run.ts');
  const code = await (isMountHelper ? runMountHelper : run)(process.argv.slice(2));
  if (code !== 0) endProcess(code);
}
