import type { Help, Option } from 'commander';
import { SCHEMES } from '../store/open/schemes.ts';
import type { Command } from './command.ts';
import { STORE_OPTIONS, takesAddress } from './help.ts';

/** A manual page: its name without the section, and its source for man(7). */
export interface ManPage {
  readonly name: string;
  readonly text: string;
}

const EXIT_CODES: readonly Item[] = [
  ['0', 'The command did what it was asked to.'],
  ['1', 'It failed, or found something wrong; the reason is on standard error.'],
  ['2', 'It was not called as it should be; nothing was done.'],
];

type Item = readonly [term: string, description: string];

/** The pages of a command and of all below it. `date` is that of the pages. */
export function manPages(command: Command, version: string, date: Date): ManPage[] {
  const below = command.commands.flatMap((one) => manPages(one as Command, version, date));
  return [manPage(command, version, date), ...below];
}

/** The page of a command, made of what its help is made of. */
export function manPage(command: Command, version: string, date: Date): ManPage {
  const help = command.createHelp();
  const name = pageName(command);
  const day = date.toISOString().slice(0, 10);
  const options = help.visibleOptions(command);
  const text = [
    `.TH ${name.toUpperCase()} 1 ${day} "tvix-store ${version}" "tvix-store manual"`,
    ...section('Name', [
      `${roff(name)} \\-`,
      ...filled(command.summary() || 'a content-addressed store for Nix'),
    ]),
    ...section('Synopsis', [`.B ${roff(command.fullName)}`, roff(command.usage())]),
    ...section('Description', filled(command.description())),
    ...items(
      'Arguments',
      help.visibleArguments(command).map((one) => [help.argumentTerm(one), help.argumentDescription(one)]),
    ),
    ...items('Options', options.filter((one) => one.helpGroupHeading === undefined).map(item(help))),
    ...items(
      'Store options',
      options.filter((one) => one.helpGroupHeading === STORE_OPTIONS).map(item(help)),
    ),
    ...items('Global options', help.visibleGlobalOptions(command).map(item(help))),
    ...items(
      'Commands',
      command.commands.map((one) => [help.subcommandTerm(one), help.subcommandDescription(one)]),
    ),
    ...items(
      'Addresses of stores',
      takesAddress(command) ? Object.values(SCHEMES).map(({ form, about }) => [form, about]) : [],
    ),
    ...items('Exit status', EXIT_CODES),
    ...section('Examples', command.examples.length > 0 ? ['.EX', ...command.examples.map(roff), '.EE'] : []),
    ...section('See also', seeAlso(command)),
  ];
  return { name, text: `${text.join('\n')}\n` };
}

function pageName(command: Command): string {
  return command.fullName.replaceAll(' ', '-');
}

function item(help: Help): (option: Option) => Item {
  return (option) => [help.optionTerm(option), help.optionDescription(option)];
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`.SH ${title.toUpperCase()}`, ...lines];
}

function items(title: string, list: readonly Item[]): string[] {
  return section(
    title,
    list.flatMap(([term, description]) => ['.TP', `.B ${roff(term)}`, ...filled(description)]),
  );
}

function seeAlso(command: Command): string[] {
  const parent = command.parent instanceof Object ? [command.parent as Command] : [];
  const pages = [...parent, ...command.commands].map((one) => pageName(one as Command));
  return pages.map((page, i) => `.BR ${roff(page)} (1)${i < pages.length - 1 ? ',' : ''}`);
}

/** Text that is filled, in lines that end with its sentences and are short enough to be read. */
function filled(text: string): string[] {
  return text
    .split(/(?<=[.!?]) /)
    .flatMap((sentence) => sentence.match(/.{1,72}(?= |$)|\S+/g)!.map((line) => roff(line.trim())));
}

/** Text as roff takes it for what it is. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll(
      /[^\x20-\x7e]/gu,
      (one) => `\\[u${one.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}]`,
    )
    .replace(/^(?=[.'])/, '\\&');
}
