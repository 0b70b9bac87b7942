import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadProgram } from '../../src/cli/program.ts';
import { inProcess } from '../helpers/in-process.ts';
import { SHELLS } from '../helpers/shell-completion.ts';
import { tempDir } from '../helpers/temp.ts';

const dir = tempDir();

/** Lines, and all that their last words can become in every shell; DIR stands for a directory of this test. */
const LINES: readonly (readonly [string, readonly string[]])[] = [
  ['tvix-store g', ['gc']],
  ['tvix-store nar', ['nar', 'nar-bridge']],
  ['tvix-store root ', ['add', 'help', 'list', 'remove']],
  ['tvix-store --log-level debug com', ['compact', 'completion', 'composition']],
  ['tvix-store --log-level ', ['debug', 'error', 'info', 'warn']],
  ['tvix-store completion ', ['bash', 'fish', 'zsh']],
  ['tvix-store man ro', ['root']],
  ['tvix-store ls --st', ['--store', '--store-composition']],
  ['tvix-store realize --clo', ['--closure']],
  ['tvix-store root add --t', ['--ttl']],
  ['tvix-store ls --store nix+', ['nix+file:///', 'nix+http://', 'nix+https://', 'nix+s3://']],
  ['tvix-store ls --store local:', ['local:///']],
  ['tvix-store ls --store=loc', ['--store=local:///']],
  ['tvix-store mount --verify ', ['chunks', 'whole']],
  ['tvix-store mount --verify=w', ['--verify=whole']],
  ['tvix-store mount DIR/', ['DIR/sub']],
  ['tvix-store composition check DIR/f', ['DIR/file']],
  ['tvix-store daemon -l :0 --tls-cert DIR/f', ['DIR/file']],
  // The same letter takes no value here.
  ['tvix-store ls -l DIR/f', ['DIR/file']],
];

describe.each(SHELLS)('$name', ({ name, missing, complete }) => {
  const script = join(dir, name);
  const tested = missing === undefined ? test : test.skip;
  const suffix = missing === undefined ? '' : ` (no ${missing} in PATH)`;

  beforeAll(async () => {
    mkdirSync(join(dir, 'tree/sub'), { recursive: true });
    writeFileSync(join(dir, 'tree/file'), '');
    writeFileSync(script, (await inProcess(['completion', name])).stdout);
  });

  tested.each(LINES)(`completes %s${suffix}`, async (line, wanted) => {
    const here = (text: string) => text.replace('DIR', join(dir, 'tree'));
    // A directory may come with its slash, and an option with the sign before its value.
    const found = (await complete(script, here(line))).map((one) => one.replace(/(?<!:\/\/?|:)[/=]$/, ''));
    expect(found.sort()).toEqual(wanted.map(here));
  });
});

test('the scripts have every command and every option of the help', async () => {
  const scripts: string[] = [];
  for (const { name } of SHELLS) scripts.push((await inProcess(['completion', name])).stdout);
  const program = await loadProgram();
  const commands = program.commands.flatMap((one) => [one, ...one.commands]);
  expect(commands.length).toBeGreaterThan(30);
  for (const command of commands) {
    const long = command.options.map((option) => option.long!.slice(2));
    for (const word of [command.name(), ...command.aliases(), ...long])
      for (const script of scripts) expect(script).toMatch(new RegExp(`(?<![\\w-])(--)?${word}(?![\\w-])`));
  }
});
