import type { S3Location } from '../../castore/objects/s3.ts';
import { PublicKey } from '../../nix/key.ts';
import { messageOf, UsageError } from '../../util/errors.ts';
import { authorityIn } from '../../util/system/authorities.ts';
import { restrict } from '../../util/url.ts';
import { s3Location } from '../open/backends/s3-location.ts';
import type { Credentials } from './netrc.ts';
import type { Trust } from './trust.ts';

const SCHEMES = ['nix+http:', 'nix+https:', 'nix+file:', 'nix+s3:'];
const PARAMETERS = ['trusted-public-keys', 'trusted', 'priority', 'netrc-file', 'ca', 'substituter'];
/** As the other implementations spell it. */
const NUMBERED_KEYS = /^trusted_public_keys\[\d+\]$/;
/** Caches whose key is known, by host. */
const KNOWN_KEYS: Record<string, string> = {
  'cache.nixos.org': 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
};

/** A binary cache as its address describes it. */
export interface CacheAddress {
  /** A directory, a URL of http or https that ends in a slash, or a place in a bucket. */
  readonly place: string | URL | S3Location;
  readonly trust: Trust;
  /** Instead of what the cache says of itself. */
  readonly priority: number | undefined;
  /** Those in the address itself; else the netrc file is looked into, Nix's own unless another is named. */
  readonly credentials: Credentials | undefined;
  readonly netrcFile: string | undefined;
  /** Gives the authority (PEM) that alone is trusted. */
  readonly ca: (() => Buffer) | undefined;
}

/**
 * The binary caches that an address names: its own, and those of `substituter=`, which are addresses like it.
 * Keys that it gives count for them, too. Throws a UsageError.
 */
export function parseCaches(url: URL, outerKeys: readonly PublicKey[] = []): CacheAddress[] {
  const credentials = credentialsOf(url);
  const bare = new URL(url);
  bare.username = '';
  bare.password = '';
  const parameters = parseQuery(bare);
  const numbered = [...parameters.keys()].filter((name) => NUMBERED_KEYS.test(name));
  const own = [...PARAMETERS, ...numbered];
  const isBucket = url.protocol === 'nix+s3:';
  if (!isBucket) restrict(bare, { host: true, path: true, parameters: own });
  const given = ['trusted-public-keys', ...numbered].flatMap((name) => parameters.get(name) ?? []);
  const keys = [...(given.length > 0 ? parseKeys(given) : knownKeys(url)), ...outerKeys];
  return [
    {
      place: isBucket
        ? bucketOf(
            bare,
            own.filter((name) => name !== 'ca'),
          )
        : placeOf(bare),
      trust: { keys, everything: parseFlag(parameters, 'trusted') },
      priority: parsePriority(parameters),
      credentials,
      netrcFile: parameters.get('netrc-file')?.at(-1),
      ca: authorityIn(parameters.get('ca')?.at(-1)),
    },
    ...(parameters.get('substituter') ?? []).flatMap((text) =>
      parseCaches(parseCacheAddress(text, 'substituter'), keys),
    ),
  ];
}

/** The address of a binary cache; `what` says in errors where it stood. Throws a UsageError. */
function parseCacheAddress(text: string, what: string): URL {
  const shown = JSON.stringify(text);
  if (!URL.canParse(text)) throw new UsageError(`${what}: not an address: ${shown}`);
  const url = new URL(text);
  if (SCHEMES.includes(url.protocol)) return url;
  throw new UsageError(`${what}: want nix+https://, nix+http://, nix+s3:// or nix+file:///, not ${shown}`);
}

/** The parameters of an address. A plus sign is one: keys have it, in base-64. */
function parseQuery(url: URL): Map<string, string[]> {
  const parameters = new Map<string, string[]>();
  for (const part of url.search.slice(1).split('&').filter(Boolean)) {
    const [, name, value] = /^([^=]*)=?(.*)$/s.exec(part)!.map(decode);
    parameters.set(name!, [...(parameters.get(name!) ?? []), value!]);
  }
  return parameters;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new UsageError(`${JSON.stringify(text)} is not percent-encoded as it should be`);
  }
}

/** Between keys a plus sign may stand for a space after all. */
function parseKeys(lists: readonly string[]): PublicKey[] {
  try {
    return lists.flatMap((list) => PublicKey.parseList(list.replaceAll('=+', '= ')));
  } catch (error) {
    throw new UsageError(`trusted-public-keys: ${messageOf(error)}`, { cause: error });
  }
}

function knownKeys(url: URL): PublicKey[] {
  return Object.hasOwn(KNOWN_KEYS, url.hostname) ? [PublicKey.parse(KNOWN_KEYS[url.hostname]!)] : [];
}

function parseFlag(parameters: Map<string, string[]>, name: string): boolean {
  const text = parameters.get(name)?.at(-1);
  if (text === undefined || ['0', 'false'].includes(text)) return false;
  if (['1', 'true'].includes(text)) return true;
  throw new UsageError(`${name}: want 1 or 0, not ${JSON.stringify(text)}`);
}

function parsePriority(parameters: Map<string, string[]>): number | undefined {
  const text = parameters.get('priority')?.at(-1);
  if (text === undefined || /^\d{1,9}$/.test(text)) return text === undefined ? text : Number(text);
  throw new UsageError(`priority: want a number, not ${JSON.stringify(text)}`);
}

function placeOf(url: URL): string | URL {
  const { protocol, host, pathname } = url;
  if (protocol === 'nix+file:') {
    if (host !== '' || !pathname.startsWith('/')) {
      const hint =
        host === ''
          ? 'name a directory, as in nix+file:///var/cache/nix'
          : `write nix+file:///${host}${pathname}`;
      throw new UsageError(`${url.href}: ${hint}`);
    }
    return decode(pathname);
  }
  return webBase(url);
}

/** The URL of http or https behind the plus sign of a scheme, with a slash at its end, and without a user. */
export function webBase({ protocol, host, pathname, href }: URL): URL {
  if (host === '') throw new UsageError(`${href}: name a host`);
  return new URL(`${protocol.slice(protocol.indexOf('+') + 1)}//${host}${pathname.replace(/\/*$/, '/')}`);
}

/** The bucket, with the parameters that Nix has (`endpoint`, `scheme`, `region`, `profile`) and those of other buckets. */
function bucketOf(url: URL, own: readonly string[]): S3Location {
  const bucket = new URL(url);
  const parameters = new URLSearchParams(url.search.replaceAll('+', '%2B'));
  for (const name of own) if (name !== 'ca') parameters.delete(name);
  const [scheme, endpoint] = [parameters.get('scheme') ?? 'https', parameters.get('endpoint')];
  parameters.delete('scheme');
  if (!['http', 'https'].includes(scheme))
    throw new UsageError(`scheme: want http or https, not ${JSON.stringify(scheme)}`);
  // Whoever writes the scheme means it.
  if (scheme === 'http') parameters.set('allow_http', 'true');
  if (endpoint !== null && !endpoint.includes('://')) parameters.set('endpoint', `${scheme}://${endpoint}`);
  bucket.search = String(parameters);
  return s3Location(bucket);
}

/** Those in an address. */
export function credentialsOf({ username, password }: URL): Credentials | undefined {
  return username === '' && password === ''
    ? undefined
    : { user: decode(username), password: decode(password) };
}
