import { resolve } from 'node:path';
import { messageOf, UsageError } from './errors.ts';

/** Parameters that hold secrets, and what they are; also in an address that is itself a parameter. */
const SECRET =
  /((?:[?&]|%26|%3f)(?:(?!%3d|%26)[^=&])*(?:access_key|secret|token|substituter)(?:(?!%3d|%26)[^=&])*(?:=|%3d))(?:(?!%26)[^&])*/gi;

/** An address for logs and errors: without the keys, tokens and passwords that it may hold. */
export function shownAddress(address: string | URL): string {
  return String(address)
    .replace(/(:\/\/)[^/?#]*@/g, '$1…@')
    .replace(/(%3a%2f%2f)(?:(?!%2f|%3f|%26)[^&])*%40/gi, '$1…%40')
    .replace(SECRET, '$1…');
}

/** Refuses whatever a URL has besides `allowed`. */
export function restrict(
  url: URL,
  allowed: { host?: boolean; path?: boolean; parameters?: readonly string[] },
): void {
  if (url.host && !allowed.host) throw new UsageError(`${shownAddress(url)}: a host has no meaning here`);
  if (url.pathname !== '' && !allowed.path)
    throw new UsageError(`${shownAddress(url)}: a path has no meaning here`);
  const parameters = allowed.parameters ?? [];
  for (const name of url.searchParams.keys()) {
    if (parameters.includes(name)) continue;
    const hint = parameters.length > 0 ? `allowed are ${parameters.join(', ')}` : 'none are allowed';
    throw new UsageError(`${shownAddress(url)}: unknown parameter ${JSON.stringify(name)}; ${hint}`);
  }
}

/**
 * Takes a parameter out of a URL. A plus sign is one, as in the scheme of an address or in a key. Throws a UsageError
 * when it is given twice.
 */
export function takeParameter(url: URL, name: string): string | undefined {
  const shown = shownAddress(url);
  const values = takeParameters(url, name);
  if (values.length > 1) throw new UsageError(`${name} is given twice in ${shown}`);
  return values[0];
}

/** Takes a parameter out of a URL that may be given several times, likewise. */
export function takeParameters(url: URL, name: string): string[] {
  const given = url.search.slice(1).split('&').filter(Boolean);
  const found = given.filter((part) => part === name || part.startsWith(`${name}=`));
  if (found.length > 0) url.search = given.filter((part) => !found.includes(part)).join('&');
  return found.map((part) => {
    try {
      return decodeURIComponent(part.slice(name.length + 1));
    } catch {
      throw new UsageError(`${name} is not percent-encoded as it should be in ${shownAddress(url)}`);
    }
  });
}

/** The directory that a URL names, and nothing besides. Throws a UsageError; `example` is what to write instead. */
export function directoryOf(url: URL, example: string): string {
  if (url.host) {
    const meant = shownAddress(`${url.protocol}///${url.host}${url.pathname}`);
    throw new UsageError(`${shownAddress(url)}: a path begins with a third slash; did you mean ${meant}?`);
  }
  restrict(url, { path: true });
  let dir: string;
  try {
    dir = decodeURIComponent(url.pathname);
  } catch (error) {
    throw new UsageError(`${shownAddress(url)}: ${messageOf(error)}`, { cause: error });
  }
  if (dir === '' || dir === '/')
    throw new UsageError(`${shownAddress(url)}: name a directory, as in ${example}`);
  return resolve(dir);
}
