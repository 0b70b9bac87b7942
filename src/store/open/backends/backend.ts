import type { LocalStore } from '../../../castore/local/store.ts';
import { UsageError } from '../../../util/errors.ts';
import type { Contents, Store } from '../../services.ts';

/**
 * What a store is opened for: only one that may be written to is made where there is none. `serve` is for
 * writing on behalf of others, who do not say when they are done. One that is filled keeps copies of what another
 * has; where there is none, it becomes a cache.
 */
export type Use = 'read' | 'write' | 'serve' | 'fill';

/** What a back end may ask of its surroundings. */
export interface BackendContext {
  readonly use: Use;
  /** The cache of this machine, for what a back end has to keep; opened when it is first asked for. */
  cache(): LocalStore;
  /** Blobs and directories of all that is being opened, to be used once that is done. */
  readonly contents: Contents;
  /** What is at another address, opened once; it is closed after what is built of it. */
  open(address: string, use: Use): Promise<Store>;
}

/**
 * Makes the services that an address stands for. Throws a UsageError for an address that means nothing; the
 * scheme has been looked at.
 */
export type OpenBackend = (url: URL, context: BackendContext) => Promise<Store> | Store;

/** Refuses whatever a URL has besides `allowed`. */
export function restrict(
  url: URL,
  allowed: { host?: boolean; path?: boolean; parameters?: readonly string[] },
): void {
  if (url.host && !allowed.host) throw new UsageError(`${url.href}: a host has no meaning here`);
  if (url.pathname !== '' && !allowed.path) throw new UsageError(`${url.href}: a path has no meaning here`);
  const parameters = allowed.parameters ?? [];
  for (const name of url.searchParams.keys()) {
    if (parameters.includes(name)) continue;
    const hint = parameters.length > 0 ? `allowed are ${parameters.join(', ')}` : 'none are allowed';
    throw new UsageError(`${url.href}: unknown parameter ${JSON.stringify(name)}; ${hint}`);
  }
}

/**
 * Takes a parameter out of a URL. A plus sign is one, as in the scheme of an address or in a key. Throws a UsageError
 * when it is given twice.
 */
export function takeParameter(url: URL, name: string): string | undefined {
  const given = url.search.slice(1).split('&').filter(Boolean);
  const found = given.filter((part) => part === name || part.startsWith(`${name}=`));
  if (found.length > 1) throw new UsageError(`${name} is given twice in ${url.href}`);
  if (found[0] === undefined) return undefined;
  url.search = given.filter((part) => part !== found[0]).join('&');
  try {
    return decodeURIComponent(found[0].slice(name.length + 1));
  } catch {
    throw new UsageError(`${name} is not percent-encoded as it should be in ${url.href}`);
  }
}
