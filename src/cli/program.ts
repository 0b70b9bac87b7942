import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { Option, Command as Program } from 'commander';
import type { Level } from '../util/log.ts';
import { LEVELS, setLogLevel } from '../util/log.ts';
import { catCommand } from './commands/cat.ts';
import { compositionCommand } from './commands/composition.ts';
import { copyCommand } from './commands/copy.ts';
import { daemonCommand } from './commands/daemon.ts';
import { fsckCommand } from './commands/fsck.ts';
import { gcCommand } from './commands/gc.ts';
import { importCommand } from './commands/import.ts';
import { keyCommand } from './commands/key.ts';
import { lsCommand } from './commands/ls.ts';
import { mountCommand } from './commands/mount.ts';
import { narCommand } from './commands/nar.ts';
import { narBridgeCommand } from './commands/nar-bridge.ts';
import { nixDbCommand } from './commands/nix-db.ts';
import { pathInfoCommand } from './commands/path-info.ts';
import { realiseCommand } from './commands/realise.ts';
import { rootCommand } from './commands/root.ts';
import { signCommand } from './commands/sign.ts';
import { statsCommand } from './commands/stats.ts';
import { verifyCommand } from './commands/verify.ts';
import { virtiofsCommand } from './commands/virtiofs.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

export const program: Command = new Program('tvix-store')
  .description(
    'A content-addressed store for Nix store paths, and a /nix/store that is realised lazily from it.',
  )
  .version(version)
  .addOption(new Option('--log-level <level>', 'what to log').choices(LEVELS).default('info').env('TVIX_LOG'))
  .configureHelp({ showGlobalOptions: true })
  .showHelpAfterError('(tvix-store --help tells what there is)')
  .hook('preAction', (command) => setLogLevel(command.opts().logLevel as Level));

for (const command of [
  importCommand,
  mountCommand,
  virtiofsCommand,
  daemonCommand,
  lsCommand,
  catCommand,
  pathInfoCommand,
  nixDbCommand,
  narCommand,
  narBridgeCommand,
  keyCommand,
  signCommand,
  verifyCommand,
  compositionCommand,
  realiseCommand,
  copyCommand,
  rootCommand,
  gcCommand,
  fsckCommand,
  statsCommand,
]) {
  program.addCommand(command());
}

// Wrong usage is thrown, not answered by exiting: main.ts gives it its exit code.
for (const command of [program, ...program.commands.flatMap((one) => [one, ...one.commands])])
  command.exitOverride();
