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

const SECONDS: Record<string, number> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** Reads a duration such as `90m` as seconds. */
export function durationArgument(text: string): number {
  const [, number, unit] = /^(\d{1,9})([smhdw]?)$/.exec(text) ?? [];
  if (number === undefined) {
    throw new InvalidArgumentError('Want a duration such as 30s, 90m, 12h, 7d or 2w.');
  }
  return Number(number) * SECONDS[unit!]!;
}

/** Reads a size such as `20G`, in powers of 1024, as bytes. */
export function sizeArgument(text: string): number {
  const [, number, unit] = /^(\d{1,12})([KMGT]?)(?:i?B)?$/.exec(text) ?? [];
  if (number === undefined) throw new InvalidArgumentError('Want a size such as 500M, 20G or 1T.');
  return Number(number) * 1024 ** ' KMGT'.indexOf(unit || ' ');
}
