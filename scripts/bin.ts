// Makes the built dist/cli/main.js a command. Where set-up brought a Node, because the one in PATH is too old, that
// one runs it, wherever it is called from.
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Linux reads so much of a first line. */
const LONGEST_LINE = 250;

const root = join(import.meta.dirname, '..');
const command = join(root, 'dist/cli/main.js');
const brought = join(root, 'node_modules/.bin/node');
const line = `#!${brought}`;

// Linux cuts the line at a blank; env finds whatever Node is in PATH.
if (existsSync(brought) && Buffer.byteLength(line) < LONGEST_LINE && !/\s/.test(line)) {
  writeFileSync(
    command,
    readFileSync(command, 'utf8').replace(/^#!.*/, () => line),
  );
}
chmodSync(command, 0o755);
