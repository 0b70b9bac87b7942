import type { Command, Option } from 'commander';
import { Help } from 'commander';
import { SCHEMES } from '../store/open/schemes.ts';

/** Heading of the options that say which store a command works on. */
export const STORE_OPTIONS = 'Store options:';

/** What stands for a value that has a unit. */
export const UNITS = [
  { placeholder: '<size>', about: '4096B, 512K, 500M, 20G, 1T: in powers of 1024' },
  { placeholder: '<duration>', about: '30s, 90m, 12h, 7d, 2w' },
];
const UNITS_WIDTH = Math.max(...UNITS.map(({ placeholder }) => placeholder.length));

/** A command with what commander has no place for. */
interface Documented extends Command {
  readonly examples: readonly string[];
}

/** Help with the options that all commands share, the addresses of stores, and examples. */
export class CommandHelp extends Help {
  override showGlobalOptions = true;

  override subcommandTerm(command: Command): string {
    const names = [command.name(), ...command.aliases()].join('|');
    return `${names} ${command.usage().replace('[options]', '').trim()}`.trimEnd();
  }

  override optionDescription(option: Option): string {
    return `${super.optionDescription(option)}${option.mandatory ? ' (required)' : ''}`;
  }

  /** Options of the command alone stand before those that it shares with others. */
  override groupItems<T extends Command | Option>(
    unsorted: T[],
    visible: T[],
    groupOf: (item: T) => string,
  ): Map<string, T[]> {
    const groups = [...super.groupItems(unsorted, visible, groupOf)];
    return new Map(groups.sort(([a], [b]) => Number(a === STORE_OPTIONS) - Number(b === STORE_OPTIONS)));
  }

  override formatHelp(command: Documented, helper: Help): string {
    const schemes = takesAddress(command) ? Object.values(SCHEMES) : [];
    const width = Math.max(...schemes.map(({ form }) => form.length));
    const addresses = schemes.map(({ form, about }) => helper.formatItem(form, width, about, helper));
    const units = UNITS.filter(({ placeholder }) =>
      command.options.some(({ flags }) => flags.includes(placeholder)),
    ).map(({ placeholder, about }) => helper.formatItem(placeholder, UNITS_WIDTH, about, helper));
    const sections = [
      ...helper.formatItemList('Units:', units, helper),
      ...helper.formatItemList('Addresses of stores (<url>):', addresses, helper),
      ...helper.formatItemList(
        'Example:',
        command.examples.map((line) => `  ${line}`),
        helper,
      ),
    ];
    return [super.formatHelp(command, helper), ...sections].join('\n');
  }
}

/** Whether the help of a command tells of the addresses of stores. */
export function takesAddress(command: Command): boolean {
  return command.options.some(({ flags }) => flags.endsWith('<url>'));
}
