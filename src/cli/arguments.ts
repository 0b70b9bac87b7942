import { InvalidArgumentError, Option } from 'commander';
import { checkName } from '../nix/store-path.ts';
import { messageOf, UsageError } from '../util/errors.ts';
import { parseDuration, parseSize } from '../util/quantity.ts';

/** The largest number of a user or group; the one above it means none. */
export const MAX_ID: number = 2 ** 32 - 2;

/** Reads an argument: whatever `parse` throws is wrong usage. `what` names the argument where that does not. */
export function argument<T>(parse: () => T, what?: string): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageError(`${what === undefined ? '' : `${what}: `}${messageOf(error)}`, { cause: error });
  }
}

/** Makes a parser the judge of an option's value: what it throws is wrong usage that names the option. */
export function parsedBy<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(sentence(messageOf(error)));
    }
  };
}

function sentence(message: string): string {
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
}

/** Reads a whole number within bounds. */
export function numberArgument(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number < least || number > most) {
      throw new InvalidArgumentError(`Want a whole number from ${least} to ${most}.`);
    }
    return number;
  };
}

/** Reads a user or group: a number, or a name that `find` knows. */
export function accountArgument(
  what: string,
  find: (name: string) => number | undefined,
): (text: string) => number {
  return (text) => {
    const number = /^\d+$/.test(text) ? Number(text) : find(text);
    if (number === undefined) throw new InvalidArgumentError(`There is no ${what} of this name.`);
    if (number > MAX_ID) throw new InvalidArgumentError(`Want a number of at most ${MAX_ID}.`);
    return number;
  };
}

export function socketModeOption(): Option {
  return new Option('--socket-mode <octal>', 'mode of the unix socket').argParser(octal);
}

function octal(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) throw new InvalidArgumentError('Want an octal mode such as 0660.');
  return Number.parseInt(text, 8);
}

/** Reads a duration between two others as seconds. */
export function durationArgument(least = '0', most = '5200w'): (text: string) => number {
  return parsedBy((text) => {
    const seconds = parseDuration(text);
    if (seconds < parseDuration(least) || seconds > parseDuration(most)) {
      throw new UsageError(`want a duration from ${least} to ${most}`);
    }
    return seconds;
  });
}

/** Reads a size as bytes. */
export const sizeArgument: (text: string) => number = parsedBy(parseSize);

/** Less in a second would never end. */
const LEAST_RATE = 1024;

/** Reads how many bytes something may take in a second. */
export const rateArgument: (text: string) => number = parsedBy((text) => {
  const rate = parseSize(text);
  if (rate < LEAST_RATE) throw new UsageError('want 1K or more');
  return rate;
});

/** Reads the name of a store path. */
export const nameArgument: (text: string) => string = parsedBy((text) => {
  checkName(text);
  return text;
});
