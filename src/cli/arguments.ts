import { InvalidArgumentError, Option } from 'commander';

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

export function socketModeOption(): Option {
  return new Option('--socket-mode <octal>', 'mode of the unix socket').argParser(octal);
}

function octal(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) throw new InvalidArgumentError('Want an octal mode such as 0660.');
  return Number.parseInt(text, 8);
}
