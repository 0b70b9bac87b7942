import type { Argument, Command, Option } from 'commander';
import { SCHEMES } from '../store/open/schemes.ts';
import type { CommandHelp } from './help.ts';

/** The possible values of an argument, as far as a shell can complete them. */
export type Values =
  | { readonly kind: 'choices'; readonly choices: readonly string[] }
  | { readonly kind: 'file' | 'directory' | 'address' | 'other' };

/** An option of a command, its own or one that all have. */
export interface OptionOutline {
  /** `-l` and `--long`, for instance. */
  readonly flags: readonly string[];
  /** Nothing for a flag without a value. */
  readonly values: Values | undefined;
  readonly placeholder: string;
  readonly description: string;
}

/** A command as shells and manual pages want to know it. */
export interface CommandOutline {
  /** The words behind `tvix-store` that call it: none for the program itself, several with an alias. */
  readonly calls: readonly string[];
  readonly names: readonly string[];
  readonly summary: string;
  readonly options: readonly OptionOutline[];
  readonly operands: Values;
  readonly commands: readonly CommandOutline[];
}

/** Reads the definitions that the help is made of. */
export function outlineOf(
  command: Command,
  parents: readonly string[] = [],
  siblings: readonly string[] = [],
): CommandOutline {
  const help = command.createHelp() as CommandHelp;
  const names = [command.name(), ...command.aliases()];
  const isProgram = parents.length === 0;
  const calls = isProgram
    ? ['']
    : parents.flatMap((parent) => names.map((name) => `${parent} ${name}`.trim()));
  const commands = help.visibleCommands(command);
  const within = commands.map((one) => one.name());
  const options = [...help.visibleOptions(command), ...help.visibleGlobalOptions(command)];
  return {
    calls,
    names,
    summary: help.subcommandDescription(command),
    options: options.map(optionOutline),
    operands: widest(command.registeredArguments.map((argument) => argumentValues(argument, siblings))),
    commands: commands.map((one) => outlineOf(one, calls, within)),
  };
}

/** A command and all that are below it. */
export function allOf(outline: CommandOutline): CommandOutline[] {
  return [outline, ...outline.commands.flatMap(allOf)];
}

/** How addresses of stores begin. */
export function addressBeginnings(): string[] {
  return Object.values(SCHEMES).map(({ form }) => /^[^:]+:\/\/\/?(\?\w+=)?/.exec(form)![0]);
}

function optionOutline(option: Option): OptionOutline {
  const placeholder = /[<[]([\w-]+)/.exec(option.flags)?.[1] ?? '';
  return {
    flags: [option.short, option.long].filter((flag) => flag !== undefined),
    values: placeholder === '' ? undefined : valuesOf(placeholder, option.argChoices),
    placeholder,
    description: option.description,
  };
}

function argumentValues(argument: Argument, siblings: readonly string[]): Values {
  if (/^command$/i.test(argument.name())) return { kind: 'choices', choices: siblings };
  return valuesOf(argument.name(), argument.argChoices);
}

/** Placeholders are few, and mean the same everywhere. */
function valuesOf(placeholder: string, choices: readonly string[] | undefined): Values {
  if (choices) return { kind: 'choices', choices };
  if (placeholder === 'url') return { kind: 'address' };
  if (/^(?:dir|directory)$/i.test(placeholder)) return { kind: 'directory' };
  return { kind: /^(?:file|path|socket|store_path)\b/i.test(placeholder) ? 'file' : 'other' };
}

/** Of the operands of a command: what completes any of them. */
function widest(operands: readonly Values[]): Values {
  const kinds = ['choices', 'file', 'directory'];
  const found = kinds.map((kind) => operands.find((one) => one.kind === kind)).find(Boolean);
  return found ?? { kind: 'other' };
}
