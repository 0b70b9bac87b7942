// Makes the built dist/cli/main.js a command. Where set-up brought a Node, because the one in PATH is too old, that
// one runs it, wherever it is called from; with --portable, as `npm pack` wants it, the one in PATH does everywhere.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const command = join(root, 'dist/cli/main.js');
const brought = join(root, 'node_modules/.bin/node');
const isPortable = process.argv.includes('--portable');

// Both a shell and Node can read this. Linux would cut the path of a Node in the first line at a blank, or where it is
// long. Until the command says that it listens to SIGUSR1, Node would open its debugger at that.
const start =
  existsSync(brought) && !isPortable
    ? `#!/bin/sh\n':' //; exec '${brought.replaceAll("'", "'\\''")}' --disable-sigusr1 "$0" "$@"\n`
    : '#!/usr/bin/env node\n';
const text = readFileSync(command, 'utf8').replace(/^#!.*\n(?:':' .*\n)?/, () => start);
// At once, for somebody may just start it.
writeFileSync(`${command}.new`, text, { mode: 0o755 });
renameSync(`${command}.new`, command);
