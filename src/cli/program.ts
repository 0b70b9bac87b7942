import { readFileSync } from 'node:fs';
import { Option } from 'commander';
import type { Format, Level } from '../util/log.ts';
import { FORMATS, LEVELS, setLogFormat, setLogLevel } from '../util/log.ts';
import { Command } from './command.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

/** In the order of the help. Only the one that is asked for is loaded: all of them take longer than Node to start. */
const COMMANDS: ReadonlyMap<string, () => Promise<() => Command>> = new Map([
  ['import', async () => (await import('./commands/import.ts')).importCommand],
  ['mount', async () => (await import('./commands/mount.ts')).mountCommand],
  ['virtiofs', async () => (await import('./commands/virtiofs.ts')).virtiofsCommand],
  ['daemon', async () => (await import('./commands/daemon.ts')).daemonCommand],
  ['ls', async () => (await import('./commands/ls.ts')).lsCommand],
  ['cat', async () => (await import('./commands/cat.ts')).catCommand],
  ['diff', async () => (await import('./commands/diff.ts')).diffCommand],
  ['path-info', async () => (await import('./commands/path-info.ts')).pathInfoCommand],
  ['nix-db', async () => (await import('./commands/nix-db.ts')).nixDbCommand],
  ['nar', async () => (await import('./commands/nar.ts')).narCommand],
  ['nix-daemon', async () => (await import('./commands/nix-daemon.ts')).nixDaemonCommand],
  ['nar-bridge', async () => (await import('./commands/nar-bridge.ts')).narBridgeCommand],
  ['token', async () => (await import('./commands/token.ts')).tokenCommand],
  ['key', async () => (await import('./commands/key.ts')).keyCommand],
  ['sign', async () => (await import('./commands/sign.ts')).signCommand],
  ['verify', async () => (await import('./commands/verify.ts')).verifyCommand],
  ['composition', async () => (await import('./commands/composition.ts')).compositionCommand],
  ['realise', async () => (await import('./commands/realise.ts')).realiseCommand],
  ['copy', async () => (await import('./commands/copy.ts')).copyCommand],
  ['warm', async () => (await import('./commands/warm.ts')).warmCommand],
  ['profile', async () => (await import('./commands/profile.ts')).profileCommand],
  ['root', async () => (await import('./commands/root.ts')).rootCommand],
  ['why', async () => (await import('./commands/why.ts')).whyCommand],
  ['gc', async () => (await import('./commands/gc.ts')).gcCommand],
  ['fsck', async () => (await import('./commands/fsck.ts')).fsckCommand],
  ['backup', async () => (await import('./commands/backup.ts')).backupCommand],
  ['restore', async () => (await import('./commands/restore.ts')).restoreCommand],
  ['compact', async () => (await import('./commands/compact.ts')).compactCommand],
  ['upgrade', async () => (await import('./commands/upgrade.ts')).upgradeCommand],
  ['stats', async () => (await import('./commands/stats.ts')).statsCommand],
  ['du', async () => (await import('./commands/du.ts')).duCommand],
  [
    'completion',
    async () => {
      const { completionCommand } = await import('./commands/completion.ts');
      return () => completionCommand(loadProgram);
    },
  ],
  [
    'man',
    async () => {
      const { manCommand } = await import('./commands/man.ts');
      return () => manCommand(loadProgram, version);
    },
  ],
]);

/** The program, with the command of this name, or with all of them. */
export async function loadProgram(name?: string): Promise<Command> {
  const program = new Command('tvix-store')
    .description(
      'A content-addressed store for Nix store paths, and a read-only /nix/store that is fetched from it on demand.',
    )
    .version(version)
    .addOption(
      new Option('--log-level <level>', 'log messages of this level and above')
        .choices(LEVELS)
        .default('info')
        .env('TVIX_LOG'),
    )
    .addOption(
      new Option('--log-format <format>', 'log for people, or each line as an object of JSON')
        .choices(FORMATS)
        .default('text')
        .env('TVIX_LOG_FORMAT'),
    )
    .hook('preAction', (command) => {
      const { logLevel, logFormat } = command.opts();
      setLogLevel(logLevel as Level);
      setLogFormat(logFormat as Format);
    });
  const named = COMMANDS.get(name ?? '');
  const loading = named ? [named()] : [...COMMANDS.values()].map((load) => load());
  for (const command of await Promise.all(loading)) program.addCommand(command());
  return program;
}
