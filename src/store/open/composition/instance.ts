import { isAbsolute } from 'node:path';
import { UsageError } from '../../../util/errors.ts';
import type { Located, Table } from './parse.ts';
import type { Given, Key, Kind, ServiceType } from './types.ts';
import { TYPES, typesOf } from './types.ts';

export type Value = string | number | readonly string[] | Readonly<Record<string, string>>;

/** A service that a composition has. */
export interface Instance {
  readonly kind: Kind;
  /** As in the file; that of an instance which stands for an address is the address. */
  readonly name: string;
  readonly typeName: string;
  readonly type: ServiceType;
  /** By key, in the first of its spellings. */
  readonly values: ReadonlyMap<string, Value>;
  /** Where the instance is in the file, and where each of its values. */
  readonly place: Place;
  readonly places: ReadonlyMap<string, Place>;
}

/** A place in a file, for errors. */
export class Place {
  readonly #file: string;
  readonly #line: number;
  readonly #path: string;

  constructor(file: string, line: number, path: string) {
    this.#file = file;
    this.#line = line;
    this.#path = path;
  }

  key(key: string, line: number): Place {
    return new Place(this.#file, line, `${this.#path}.${key}`);
  }

  error(problem: string, cause?: unknown): UsageError {
    return new UsageError(`${this.#file}:${this.#line}: ${this.#path}: ${problem}`, { cause });
  }
}

/** What the file gives for the keys of an instance. */
export function givenFor({ values }: Instance): Given {
  return {
    text: (key) => values.get(key) as string,
    number: (key) => values.get(key) as number | undefined,
    texts: (key) => values.get(key) as readonly string[] | undefined,
    options: (key) => (values.get(key) ?? {}) as Readonly<Record<string, string>>,
  };
}

/** Reads the table of an instance. Throws a UsageError for a type or a key that does not exist, or a wrong value. */
export function readInstance(kind: Kind, name: string, { value: table }: Located, place: Place): Instance {
  if (!(table instanceof Map)) throw place.error('it must be a table with a type');
  const [typeName, type] = readType(kind, table, place);
  const values = new Map<string, Value>();
  const places = new Map<string, Place>();
  const keys = new Map(
    Object.entries(type.keys).flatMap(([key, { also }]) => [
      [key, key] as const,
      ...(also ? [[also, key] as const] : []),
    ]),
  );
  for (const [spelling, located] of table) {
    if (spelling === 'type') continue;
    const at = place.key(spelling, located.line);
    const key = keys.get(spelling);
    if (key === undefined) throw at.error(`unknown key; ${allowed([...keys.keys()])}`);
    if (values.has(key)) throw at.error(`it is given twice: it is another spelling of ${key}`);
    values.set(key, readValue(type.keys[key]!, located, at));
    places.set(key, at);
  }
  for (const [key, { required }] of Object.entries(type.keys)) {
    if (required && !values.has(key)) throw place.error(`${key} is missing, which ${typeName} needs`);
  }
  return { kind, name, typeName, type, values, place, places };
}

function readType(kind: Kind, table: Table, place: Place): [string, ServiceType] {
  const known = typesOf(kind);
  const given = table.get('type');
  if (!given) throw place.error(`type is missing; ${allowed(known)}`);
  const at = place.key('type', given.line);
  if (typeof given.value !== 'string') throw at.error(`it must be a text in quotes; ${allowed(known)}`);
  if (!known.includes(given.value)) {
    throw at.error(`unknown type ${JSON.stringify(given.value)}; ${allowed(known)}`);
  }
  return [given.value, TYPES[given.value]!];
}

function allowed(names: readonly string[]): string {
  return names.length > 0 ? `allowed are ${names.join(', ')}` : 'none are allowed';
}

function readValue({ is }: Key, { value }: Located, place: Place): Value {
  switch (is) {
    case 'service':
    case 'text':
      if (typeof value === 'string' && value !== '') return value;
      throw place.error('it must be a text in quotes, and not empty');
    case 'path':
      if (typeof value === 'string' && isAbsolute(value)) return value;
      throw place.error('it must be an absolute path in quotes');
    case 'number':
      if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
      throw place.error('it must be a whole number above 0');
    case 'texts': {
      const texts = Array.isArray(value) ? value.map((one) => one.value) : [undefined];
      if (texts.every((text) => typeof text === 'string')) return texts;
      throw place.error('it must be a list of texts');
    }
    case 'options': {
      const options = value instanceof Map ? [...value].map(([key, one]) => [key, one.value] as const) : [];
      if (value instanceof Map && options.every(([, one]) => typeof one === 'string'))
        return Object.fromEntries(options) as Record<string, string>;
      throw place.error('it must be a table of texts');
    }
  }
}
