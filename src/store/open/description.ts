import { UsageError } from '../../util/errors.ts';
import type { ServiceName } from '../services.ts';
import type { Key, Value } from './keys.ts';
import { givenBy } from './keys.ts';
import type { Kind } from './kind.ts';
import { ALL_SERVICES, SERVICES } from './kind.ts';

/** A store as an address or an entry of a composition describes it: its kind, values for it, and its parts. */
export interface Description {
  /** An address for people, or the name in the composition. */
  readonly name: string;
  readonly typeName: string;
  readonly kind: Kind;
  readonly values: ReadonlyMap<string, Value>;
  /** Where it is, if its kind has addresses of its own. */
  readonly url?: URL | undefined;
  /** By key. */
  readonly parts: ReadonlyMap<string, Description>;
}

/** The key by which a part is named; of several, all have the same. */
export function keyOf({ kind }: Description, part: string): Key | undefined {
  return kind.keys[part.replace(/\.\d+$/, '')];
}

/** The service that a key names where `service` is made of it. */
export function serviceOf(description: Description, part: string, service: ServiceName): ServiceName {
  return keyOf(description, part)?.service ?? service;
}

/** Whether it makes a service itself. */
export function makes({ kind, values }: Description, service: ServiceName): boolean {
  if (!kind.makes[service]) return false;
  return kind.has?.(givenBy(values)).includes(service) ?? true;
}

/** Throws a UsageError when what is described does not have a service. */
export function requireService(description: Description, service: ServiceName): void {
  const { kind, name, parts } = description;
  if (makes(description, service)) {
    for (const [key, part] of parts) requireService(part, serviceOf(description, key, service));
  } else if (kind.through) {
    requireService(parts.get(kind.puts!)!, service);
  } else {
    const others = ALL_SERVICES.filter((other) => makes(description, other)).map((other) => SERVICES[other]);
    throw new UsageError(`${name} has no ${SERVICES[service]}, only ${others.join(' and ')}`);
  }
}

/** Which of its parts takes what is put. */
export function putsTo({ kind, parts }: Description): string | undefined {
  return kind.through ? putsTo(parts.get(kind.puts!)!) : kind.puts;
}
