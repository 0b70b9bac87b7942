import { isAbsolute } from 'node:path';
import type { ServiceName, Use } from '../services.ts';

/** A value that a kind of store takes: a key in a composition, a parameter in an address. */
export interface Key {
  /** `service` is the name of another instance, or an address, `services` a list of them; `options` is a table of texts. */
  readonly is: 'text' | 'path' | 'number' | 'texts' | 'options' | 'service' | 'services';
  readonly required?: boolean;
  /** Another spelling in a composition. */
  readonly also?: string;
  /** The service that is named, if it is another than the one that is made of it. */
  readonly service?: ServiceName;
  /** How many services are named, if not two or more. */
  readonly atLeast?: number;
  /** Whether those that are named fail at once when they are away: who is made of them has others to ask, or waits itself. */
  readonly failsAtOnce?: boolean;
  /** The use that the named service is opened for, if reading commands write to it, too. */
  readonly use?: Use;
}

/** A value that has been checked against its key. */
export type Value = string | number | readonly string[] | Readonly<Record<string, string>>;

/** The values that are given to a kind of store. */
export interface Given {
  has(key: string): boolean;
  text(key: string): string;
  /** These are `undefined` for a key that is not given. */
  number(key: string): number | undefined;
  texts(key: string): readonly string[] | undefined;
  options(key: string): Readonly<Record<string, string>> | undefined;
}

/** Values by key, each as what its key says it is. */
export function givenBy(values: ReadonlyMap<string, Value>): Given {
  return {
    has: (key) => values.has(key),
    text: (key) => values.get(key) as string,
    number: (key) => values.get(key) as number | undefined,
    texts: (key) => values.get(key) as readonly string[] | undefined,
    options: (key) => values.get(key) as Readonly<Record<string, string>> | undefined,
  };
}

/** Checks a value from a file. Throws what `wrong` makes of the reason. */
export function checkValue(
  { is, atLeast = 2 }: Key,
  value: unknown,
  wrong: (reason: string) => Error,
): Value {
  switch (is) {
    case 'service':
    case 'text':
      if (typeof value === 'string' && value !== '') return value;
      throw wrong('it must be a text in quotes, and not empty');
    case 'path':
      if (typeof value === 'string' && isAbsolute(value)) return value;
      throw wrong('it must be an absolute path in quotes');
    case 'number':
      if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
      throw wrong('it must be a whole number above 0');
    case 'services':
      if (
        Array.isArray(value) &&
        value.length >= atLeast &&
        value.every((one) => typeof one === 'string' && one)
      )
        return value;
      throw wrong(`it must be a list of ${atLeast === 1 ? 'one' : 'two'} or more`);
    case 'texts':
      if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value;
      throw wrong('it must be a list of texts');
    case 'options':
      if (isTable(value) && Object.values(value).every((one) => typeof one === 'string'))
        return value as Record<string, string>;
      throw wrong('it must be a table of texts');
  }
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Reads a value as an address has it, a text, and checks it. Throws what `wrong` makes of the reason. */
export function parseValue(key: Key, text: string, wrong: (reason: string) => Error): Value {
  if (key.is === 'number') return checkValue(key, /^\d{1,15}$/.test(text) ? Number(text) : text, wrong);
  if (key.is === 'texts') return text.split(/\s+/).filter(Boolean);
  return checkValue(key, text, (reason) => wrong(reason.replace(' in quotes', '')));
}
