import { readFileSync } from 'node:fs';
import { messageOf, UsageError } from '../../../util/errors.ts';
import type { Instance } from './instance.ts';
import { givenFor, Place, readInstance } from './instance.ts';
import type { Table } from './parse.ts';
import { parseToml } from './parse.ts';
import type { Kind } from './types.ts';

/** Services wired to each other, without a name that leads nowhere and without a circle. */
export interface Composition {
  readonly instances: readonly Instance[];
  /** What the store consists of. */
  readonly entries: Readonly<Record<Kind, Instance>>;
  /** The instance that a key of another one names; `undefined` where it gives an address. */
  part(instance: Instance, key: string): Instance | undefined;
}

export const SECTIONS = {
  blobservices: 'blobs',
  directoryservices: 'directories',
  pathinfoservices: 'pathInfos',
} as const satisfies Record<string, Kind>;
type Section = keyof typeof SECTIONS;

/** What the Rust implementations called the instance to begin with, and what they call it now. */
const ENTRIES = ['default', 'root'];

/**
 * Reads a composition file. Throws a UsageError that names file, line, key and what is allowed; `checkAddress`
 * throws one for an address at which nothing can be.
 */
export function readComposition(file: string, checkAddress: (address: string) => unknown): Composition {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError(`cannot read the composition: ${messageOf(error)}`, { cause: error });
  }
  const instances = readInstances(parseToml(text, file), file);
  const part = (instance: Instance, key: string) => named(instances, instance, key);
  refuseCircles(instances, part);
  for (const instance of instances) checkAddresses(instance, part, checkAddress);
  const entries = {
    blobs: entry(instances, 'blobservices', file),
    directories: entry(instances, 'directoryservices', file),
    pathInfos: entry(instances, 'pathinfoservices', file),
  };
  return { instances, entries, part };
}

function readInstances(root: Table, file: string): Instance[] {
  const instances: Instance[] = [];
  for (const [section, { line, value }] of root) {
    const place = new Place(file, line, section);
    if (!Object.hasOwn(SECTIONS, section))
      throw place.error(`unknown section; allowed are ${Object.keys(SECTIONS).join(', ')}`);
    if (!(value instanceof Map)) throw place.error('it must be a table of services');
    const kind = SECTIONS[section as Section];
    for (const [name, located] of value) {
      instances.push(readInstance(kind, name, located, place.key(name, located.line)));
    }
  }
  return instances;
}

function entry(instances: readonly Instance[], section: Section, file: string): Instance {
  const found = instances.filter(({ kind, name }) => kind === SECTIONS[section] && ENTRIES.includes(name));
  if (found.length > 1)
    throw found[1]!.place.error('default and root are both the one to begin with; keep one');
  if (!found[0])
    throw new UsageError(`${file}: ${section} has none to begin with; name one of them root (or default)`);
  return found[0];
}

/** Both ways to write a name are taken, with and without `&` before it. */
function named(instances: readonly Instance[], instance: Instance, key: string): Instance | undefined {
  const text = instance.values.get(key);
  if (typeof text !== 'string' || text.includes('://')) return undefined;
  const name = text.replace(/^&/, '');
  const kind = instance.type.keys[key]!.kind ?? instance.kind;
  const candidates = instances.filter((one) => one.kind === kind);
  const found = candidates.find((one) => one.name === name);
  if (found) return found;
  const names = candidates.map((one) => one.name).join(', ');
  throw instance.places
    .get(key)!
    .error(`there is no ${JSON.stringify(name)} among its kind of service; there are ${names}`);
}

/** The keys of an instance that name others. */
export function partKeys(instance: Instance): string[] {
  return [...instance.values.keys()].filter((key) => instance.type.keys[key]!.is === 'service');
}

function checkAddresses(
  instance: Instance,
  part: Composition['part'],
  checkAddress: (address: string) => unknown,
): void {
  const { type, places, values } = instance;
  const check = (address: () => string, key: string | undefined) => {
    try {
      checkAddress(address());
    } catch (error) {
      throw (places.get(key ?? '') ?? instance.place).error(messageOf(error), error);
    }
  };
  const { address } = type;
  if (address) check(() => address.of(givenFor(instance)), places.keys().next().value);
  for (const key of partKeys(instance)) if (!part(instance, key)) check(() => values.get(key) as string, key);
}

function refuseCircles(instances: readonly Instance[], part: Composition['part']): void {
  const done = new Set<Instance>();
  const visit = (instance: Instance, path: readonly Instance[]) => {
    if (path.includes(instance)) {
      const circle = [...path.slice(path.indexOf(instance)), instance].map(({ name }) => name);
      throw instance.place.error(`it refers to itself: ${circle.join(' -> ')}`);
    }
    if (done.has(instance)) return;
    for (const key of partKeys(instance)) {
      const next = part(instance, key);
      if (next) visit(next, [...path, instance]);
    }
    done.add(instance);
  };
  for (const instance of instances) visit(instance, []);
}
