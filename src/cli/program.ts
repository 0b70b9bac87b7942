import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { Option, Command as Program } from 'commander';
import type { Level } from '../util/log.ts';
import { LEVELS, setLogLevel } from '../util/log.ts';

/** In the order of the help. Only the one that is asked for is loaded: all of them take longer than Node to start. */
const COMMANDS: ReadonlyMap<string, () => Promise<() => Command>> = new Map([
  ['import', async () => (await import('./commands/import.ts')).importCommand],
  ['mount', async () => (await import('./commands/mount.ts')).mountCommand],
  ['virtiofs', async () => (await import('./commands/virtiofs.ts')).virtiofsCommand],
  ['daemon', async () => (await import('./commands/daemon.ts')).daemonCommand],
  ['ls', async () => (await import('./commands/ls.ts')).lsCommand],
  ['cat', async () => (await import('./commands/cat.ts')).catCommand],
  ['path-info', async () => (await import('./commands/path-info.ts')).pathInfoCommand],
  ['nix-db', async () => (await import('./commands/nix-db.ts')).nixDbCommand],
  ['nar', async () => (await import('./commands/nar.ts')).narCommand],
  ['nar-bridge', async () => (await import('./commands/nar-bridge.ts')).narBridgeCommand],
  ['key', async () => (await import('./commands/key.ts')).keyCommand],
  ['sign', async () => (await import('./commands/sign.ts')).signCommand],
  ['verify', async () => (await import('./commands/verify.ts')).verifyCommand],
  ['composition', async () => (await import('./commands/composition.ts')).compositionCommand],
  ['realise', async () => (await import('./commands/realise.ts')).realiseCommand],
  ['copy', async () => (await import('./commands/copy.ts')).copyCommand],
  ['root', async () => (await import('./commands/root.ts')).rootCommand],
  ['gc', async () => (await import('./commands/gc.ts')).gcCommand],
  ['fsck', async () => (await import('./commands/fsck.ts')).fsckCommand],
  ['stats', async () => (await import('./commands/stats.ts')).statsCommand],
]);

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

const [, , first = ''] = process.argv;
const named = COMMANDS.get(first);
const loading = named ? [named()] : [...COMMANDS.values()].map((load) => load());
for (const command of await Promise.all(loading)) program.addCommand(command());

// Wrong usage is thrown, not answered by exiting: main.ts gives it its exit code.
for (const command of [program, ...program.commands.flatMap((one) => [one, ...one.commands])])
  command.exitOverride();
