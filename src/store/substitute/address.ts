import { PublicKey } from '../../nix/key.ts';
import { messageOf, UsageError } from '../../util/errors.ts';
import { restrict } from '../../util/url.ts';
import type { Credentials } from './netrc.ts';
import type { Trust } from './trust.ts';

const SCHEMES = ['nix+http:', 'nix+https:', 'nix+file:'];
const PARAMETERS = ['trusted-public-keys', 'trusted', 'priority', 'netrc-file', 'substituter'];
/** As the other implementations spell it. */
const NUMBERED_KEYS = /^trusted_public_keys\[\d+\]$/;
/** Caches whose key is known, by host. */
const KNOWN_KEYS: Record<string, string> = {
  'cache.nixos.org': 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
};

/** A binary cache as its address describes it. */
export interface CacheAddress {
  /** A directory, or a URL of http or https that ends in a slash. */
  readonly place: string | URL;
  readonly trust: Trust;
  /** Instead of what the cache says of itself. */
  readonly priority: number | undefined;
  /** Those in the address itself; else the netrc file is looked into, Nix's own unless another is named. */
  readonly credentials: Credentials | undefined;
  readonly netrcFile: string | undefined;
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
  restrict(bare, { host: true, path: true, parameters: [...PARAMETERS, ...numbered] });
  const given = ['trusted-public-keys', ...numbered].flatMap((name) => parameters.get(name) ?? []);
  const keys = [...(given.length > 0 ? parseKeys(given) : knownKeys(url)), ...outerKeys];
  return [
    {
      place: placeOf(bare),
      trust: { keys, everything: parseFlag(parameters, 'trusted') },
      priority: parsePriority(parameters),
      credentials,
      netrcFile: parameters.get('netrc-file')?.at(-1),
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
  throw new UsageError(`${what}: want nix+https://, nix+http:// or nix+file:///, not ${shown}`);
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
  if (host === '') throw new UsageError(`${url.href}: name a host`);
  return new URL(`${protocol.slice('nix+'.length)}//${host}${pathname.replace(/\/*$/, '/')}`);
}

function credentialsOf({ username, password }: URL): Credentials | undefined {
  return username === '' ? undefined : { user: decode(username), password: decode(password) };
}
