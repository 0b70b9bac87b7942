import { readFileSync } from 'node:fs';
import { reasonOf, UsageError } from '../../../util/errors.ts';
import type { ServiceName } from '../../services.ts';
import { describeAddress } from '../address.ts';
import type { Description } from '../description.ts';
import { requireService, serviceOf } from '../description.ts';
import { givenBy } from '../keys.ts';
import type { Instance } from './instance.ts';
import { FilePlace, placeOfAddress, readInstance } from './instance.ts';
import type { Table } from './parse.ts';
import { parseToml } from './parse.ts';

/** Services wired to each other, without a name that leads nowhere and without a circle. */
export interface Composition {
  readonly instances: readonly Instance[];
  /** The services of the store itself. */
  readonly entries: Readonly<Record<ServiceName, Instance>>;
}

const SECTIONS = {
  blobservices: 'blobs',
  directoryservices: 'directories',
  pathinfoservices: 'pathInfos',
} as const satisfies Record<string, ServiceName>;
type Section = keyof typeof SECTIONS;

/** Names of the instance that the store itself consists of: the former and the present one of the Rust programs. */
const ENTRIES = ['default', 'root'];

/** Reads a composition file. Throws a UsageError that names file, line, key and what is allowed. */
export function readComposition(file: string): Composition {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError(`cannot read the composition ${file}: ${reasonOf(error)}`, { cause: error });
  }
  const instances = readInstances(parseToml(text, file), file);
  for (const instance of instances) findParts(instance, instances);
  refuseCircles(instances);
  for (const instance of instances) check(instance);
  const entries = {
    blobs: entry(instances, 'blobservices', file),
    directories: entry(instances, 'directoryservices', file),
    pathInfos: entry(instances, 'pathinfoservices', file),
  };
  return { instances, entries };
}

function readInstances(root: Table, file: string): Instance[] {
  const instances: Instance[] = [];
  for (const [section, { line, value }] of root) {
    const place = new FilePlace(file, line, section);
    if (!Object.hasOwn(SECTIONS, section))
      throw place.error(`unknown section; allowed are ${Object.keys(SECTIONS).join(', ')}`);
    if (!(value instanceof Map)) throw place.error('it must be a table of services');
    const service = SECTIONS[section as Section];
    for (const [name, located] of value) {
      instances.push(readInstance(service, name, located, place.key(name, located.line)));
    }
  }
  return instances;
}

function entry(instances: readonly Instance[], section: Section, file: string): Instance {
  const found = instances.filter(
    ({ service, name }) => service === SECTIONS[section] && ENTRIES.includes(name),
  );
  if (found.length > 1)
    throw found[1]!.place.error('default and root both name what the store consists of; keep one');
  if (!found[0])
    throw new UsageError(`${file}: ${section} has no root: call one of its instances root (or default)`);
  return found[0];
}

/** Looks up what the keys of an instance name. */
function findParts(instance: Instance, instances: readonly Instance[]): void {
  const { kind, values, places, parts } = instance;
  for (const [key, value] of values) {
    const { is } = kind.keys[key]!;
    if (is !== 'service' && is !== 'services') continue;
    const place = places.get(key)!;
    const service = serviceOf(instance, key, instance.service);
    const find = (name: string) =>
      name.includes('://')
        ? place.check(() => describePart(name, service))
        : named(name, service, instances, place);
    if (is === 'service') parts.set(key, find(value as string));
    else for (const [i, name] of (value as string[]).entries()) parts.set(`${key}.${i}`, find(name));
  }
}

function describePart(address: string, service: ServiceName): Description {
  const description = describeAddress(address);
  requireService(description, service);
  return description;
}

/** Both ways to write a name are taken, with and without `&` before it. */
function named(
  text: string,
  service: ServiceName,
  instances: readonly Instance[],
  place: FilePlace,
): Instance {
  const name = text.replace(/^&/, '');
  const candidates = instances.filter((one) => one.service === service);
  const found = candidates.find((one) => one.name === name);
  if (found) return found;
  const names = candidates.map((one) => one.name).join(', ');
  throw place.error(`there is no ${JSON.stringify(name)} among its kind of service; there are ${names}`);
}

function check(instance: Instance): void {
  const { kind, url, values, service, place } = instance;
  if (url) placeOfAddress(instance).check(() => kind.check?.(url, givenBy(values)));
  place.check(() => requireService(instance, service));
}

function refuseCircles(instances: readonly Instance[]): void {
  const done = new Set<Description>();
  const visit = (description: Description, path: readonly Description[]) => {
    if (path.includes(description)) {
      const circle = [...path.slice(path.indexOf(description)), description].map(({ name }) => name);
      throw (description as Instance).place.error(`it refers to itself: ${circle.join(' -> ')}`);
    }
    if (done.has(description)) return;
    for (const part of description.parts.values()) visit(part, [...path, description]);
    done.add(description);
  };
  for (const instance of instances) visit(instance, []);
}
