// Prints docs/commands.md from the definitions that --help is made of, as built: npm run docs.
import type { Argument, Option } from 'commander';
import { Command } from 'commander';
import { loadProgram } from '#built/cli/program.js';
import { withStoreOptions } from '#built/cli/store-options.js';

/** Flags that most commands have, told once. */
const COMMON = new Map(withStoreOptions(new Command()).options.map((option) => [option.long, option]));
const program = await loadProgram();
const commands = program.commands.flatMap((one) => (one.commands.length > 0 ? [...one.commands] : [one]));
const lines = [
  '# Commands',
  '',
  'Made from the definitions in `src/cli` by `npm run docs`; do not edit.',
  '',
  'Log lines go to standard error, results to standard output. A flag takes precedence over its variable. With `DEBUG`',
  'set, an unexpected error comes with its stack.',
  '',
  'Exit codes: **0** good, **1** failure, **2** wrong usage (an unknown command or flag, a bad value, an address that means',
  'nothing, or no command at all).',
  '',
  ...commands.map(
    (command) => `- [${nameOf(command)}](#${nameOf(command).replaceAll(' ', '-')}): ${summary(command)}`,
  ),
  '',
  '## Common flags',
  '',
  'Of every command:',
  '',
  ...flagTable(program.options.filter(({ long }) => long !== '--version')),
  '',
  `Of every command that works on a store, which is all but ${withoutStore()}:`,
  '',
  ...flagTable([...COMMON.values()]),
  ...commands.flatMap(section),
];
process.stdout.write(`${lines.join('\n')}\n`);

function nameOf(command: Command): string {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name();
}

function summary(command: Command): string {
  return oneLine(command.summary() || command.description());
}

function withoutStore(): string {
  const names = commands
    .filter((one) => !hasStore(one))
    .map((one) => `\`${nameOf(one).slice('tvix-store '.length)}\``);
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

function hasStore(command: Command): boolean {
  return command.options.some(({ long }) => long === '--store');
}

function section(command: Command): string[] {
  const own = command.options.filter(({ long }) => !COMMON.has(long));
  return [
    '',
    `## ${nameOf(command)}`,
    '',
    '```text',
    `${nameOf(command)} ${command.usage()}`,
    '```',
    '',
    oneLine(command.description() || command.summary()),
    ...argumentList(command.registeredArguments),
    ...(own.length > 0 ? ['', ...flagTable(own)] : []),
  ];
}

function argumentList(given: readonly Argument[]): string[] {
  const described = given.filter(({ description }) => description);
  if (described.length === 0) return [];
  return ['', ...described.map((one) => `- \`${one.name()}\`: ${oneLine(one.description)}`)];
}

function flagTable(options: readonly Option[]): string[] {
  return [
    '| flag | meaning |',
    '| --- | --- |',
    ...options.map((one) => `| ${flags(one)} | ${meaning(one)} |`),
  ];
}

function flags({ flags, envVar }: Option): string {
  const names = flags.split(', ').map((flag) => `\`${flag}\``);
  return [...names, ...(envVar ? [`\`${envVar}\``] : [])].join(', ');
}

function meaning({ description, argChoices, defaultValue, defaultValueDescription }: Option): string {
  const choices = argChoices?.map((one) => `\`${one}\``).join(', ');
  const shown = defaultValueDescription ?? (defaultValue === undefined ? undefined : `\`${defaultValue}\``);
  const parts = [
    oneLine(description).replaceAll('|', '\\|'),
    ...(choices ? [`One of ${choices}`] : []),
    ...(shown ? [`Default: ${shown}`] : []),
  ];
  return parts.join('. ');
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').replaceAll('<', '&lt;').trim();
}
