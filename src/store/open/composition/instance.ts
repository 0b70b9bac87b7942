import { messageOf, UsageError } from '../../../util/errors.ts';
import type { ServiceName } from '../../services.ts';
import { parseAddressOf } from '../address.ts';
import type { Description } from '../description.ts';
import type { Value } from '../keys.ts';
import { checkValue, givenBy } from '../keys.ts';
import type { Kind } from '../kind.ts';
import { KINDS, kindsOf } from '../kinds.ts';
import type { Located, Table } from './parse.ts';

/** An entry of a composition: a service with a name, as others refer to it. */
export interface Instance extends Description {
  readonly service: ServiceName;
  /** Those that it names; they are looked up when all instances are known. */
  readonly parts: Map<string, Description>;
  /** Where the instance is in the file, and where each of its values. */
  readonly place: FilePlace;
  readonly places: ReadonlyMap<string, FilePlace>;
}

/** A place in a file, for errors. */
export class FilePlace {
  readonly #file: string;
  readonly #line: number;
  readonly #path: string;

  constructor(file: string, line: number, path: string) {
    this.#file = file;
    this.#line = line;
    this.#path = path;
  }

  key(key: string, line: number): FilePlace {
    return new FilePlace(this.#file, line, `${this.#path}.${key}`);
  }

  error(problem: string, cause?: unknown): UsageError {
    return new UsageError(`${this.#file}:${this.#line}: ${this.#path}: ${problem}`, { cause });
  }

  /** Does something that may throw, which then is an error of this place. */
  check<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.error(messageOf(error), error);
    }
  }
}

/** Reads the table of an instance. Throws a UsageError for a type or a key that does not exist, or a wrong value. */
export function readInstance(
  service: ServiceName,
  name: string,
  { value: table }: Located,
  place: FilePlace,
): Instance {
  if (!(table instanceof Map)) throw place.error('it must be a table with a type');
  const [typeName, kind] = readKind(service, table, place);
  const { values, places } = readValues(kind, table, place);
  for (const [key, { required }] of Object.entries(kind.keys)) {
    if (required && !values.has(key)) throw place.error(`${key} is missing, which ${typeName} needs`);
  }
  const address = kind.address;
  const url =
    address &&
    placeOfAddress({ place, places }).check(() => parseAddressOf(typeName, address(givenBy(values))));
  return { service, name, typeName, kind, values, url, parts: new Map(), place, places };
}

/** Where the address of an instance is given: by the first of its keys. */
export function placeOfAddress({ place, places }: Pick<Instance, 'place' | 'places'>): FilePlace {
  return places.values().next().value ?? place;
}

function readKind(service: ServiceName, table: Table, place: FilePlace): [string, Kind] {
  const known = kindsOf(service);
  const given = table.get('type');
  if (!given) throw place.error(`type is missing; ${allowed(known)}`);
  const at = place.key('type', given.line);
  if (typeof given.value !== 'string') throw at.error(`it must be a text in quotes; ${allowed(known)}`);
  if (!known.includes(given.value)) {
    throw at.error(`unknown type ${JSON.stringify(given.value)}; ${allowed(known)}`);
  }
  return [given.value, KINDS[given.value]!];
}

/** By key, in the first of its spellings. */
function readValues(kind: Kind, table: Table, place: FilePlace) {
  const values = new Map<string, Value>();
  const places = new Map<string, FilePlace>();
  const keys = new Map(
    Object.entries(kind.keys).flatMap(([key, { also }]) => [
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
    values.set(
      key,
      checkValue(kind.keys[key]!, plain(located), (reason) => at.error(reason)),
    );
    places.set(key, at);
  }
  return { values, places };
}

function allowed(names: readonly string[]): string {
  return names.length > 0 ? `allowed are ${names.join(', ')}` : 'none are allowed';
}

function plain({ value }: Located): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...value].map(([key, one]) => [key, plain(one)]));
}
