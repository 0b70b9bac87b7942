import { UsageError } from '../../util/errors.ts';
import { restrict, shownAddress, takeParameter, takeParameters } from '../../util/url.ts';
import { addressHint } from './address-hint.ts';
import { localDirectory as directoryAt } from './backends/local.ts';
import { addressOfReplicas, hostsIn, replicasIn } from './backends/replicas.ts';
import { signing } from './backends/signing.ts';
import type { Description } from './description.ts';
import type { Value } from './keys.ts';
import { checkValue, givenBy, parseValue } from './keys.ts';
import { KINDS } from './kinds.ts';
import { SCHEMES, schemesOf } from './schemes.ts';

/** Parameter that any address may have: the key that signs whatever is put there. */
const SIGNING = 'signing-key-file';

/** Reads an address. Throws a UsageError for one that means nothing. */
export function describeAddress(written: string): Description {
  const hosts = hostsIn(written);
  const address = hosts ? addressOfReplicas(hosts) : written;
  const url = parseAddress(address);
  const name = storesNamed(address);
  const { type, form } = schemeOf(url, address);
  const kind = KINDS[type]!;
  const keyFile = takeParameter(url, SIGNING);
  const hasOwn = kind.address !== undefined;
  const keys = Object.entries(kind.keys).filter(([, { is }]) => !hasOwn || is === 'service');
  if (!hasOwn) restrict(url, { parameters: keys.map(([key]) => key) });
  const values = new Map<string, Value>();
  const parts = new Map<string, Description>();
  for (const [parameter, key] of keys) {
    const wrong = (reason: string) => new UsageError(`${name}: ${parameter}: ${reason}`);
    if (key.is === 'services') {
      const addresses = takeParameters(url, parameter);
      values.set(parameter, checkValue(key, addresses, wrong));
      for (const [i, one] of addresses.entries()) parts.set(`${parameter}.${i}`, describeAddress(one));
      continue;
    }
    const text = takeParameter(url, parameter);
    if (text) {
      const value = parseValue(key, text, wrong);
      values.set(parameter, value);
      if (key.is === 'service') parts.set(parameter, describeAddress(text));
    } else if (text === '' || key.required) {
      const hint = key.is === 'service' ? ', with %26 for each & within' : '';
      throw new UsageError(`${name}: ${parameter} is missing; want ${form}${hint}`);
    }
  }
  if (hasOwn) kind.check?.(url, givenBy(values));
  const description = { name, typeName: type, kind, values, url: hasOwn ? url : undefined, parts };
  return keyFile === undefined ? description : signing(description, keyFile);
}

/** An address for people: of several stores, a list. */
export function storesNamed(address: string): string {
  const several = replicasIn(address);
  return several ? several.map(storesNamed).join(', ') : shownAddress(address);
}

/** Throws a UsageError for what is not the address of a store. */
export function parseAddress(address: string): URL {
  if (URL.canParse(address)) return new URL(address);
  const shown = shownAddress(address);
  const hint = addressHint(shown) || '; want a URL such as local:///var/lib/tvix-store';
  throw new UsageError(`not an address: ${JSON.stringify(shown)}${hint}`);
}

/** The address of a kind of store. Throws a UsageError for that of another kind. */
export function parseAddressOf(type: string, address: string): URL {
  const url = parseAddress(address);
  if (url.searchParams.has(SIGNING))
    throw new UsageError(`${SIGNING} has no meaning here: name a keyfile-signing service instead`);
  if (schemesOf(type).includes(`${url.protocol}//`)) return url;
  const want = schemesOf(type).join(', ');
  throw new UsageError(`want ${want}, not ${JSON.stringify(shownAddress(address))}`);
}

function schemeOf(url: URL, address: string) {
  const name = url.protocol.slice(0, -1);
  if (Object.hasOwn(SCHEMES, name)) return SCHEMES[name]!;
  const shown = shownAddress(address);
  const known = Object.keys(SCHEMES).map((scheme) => `${scheme}://`);
  const hint = addressHint(shown) || `; known are ${known.join(', ')}`;
  throw new UsageError(`unknown kind of store in ${JSON.stringify(shown)}${hint}`);
}

/** The directory of a local store's address; `undefined` when it is that of another kind of store. */
export function localDirectory(address: string): string | undefined {
  if (!URL.canParse(address)) return undefined;
  const url = new URL(address);
  return SCHEMES[url.protocol.slice(0, -1)]?.type === 'local' ? directoryAt(url) : undefined;
}
