import { reasonOf, StoreError, systemCode } from '../../util/errors.ts';
import { FreshFiles } from '../../util/system/fresh-files.ts';

/** Who asks, as HTTP's Basic scheme has it. */
export interface Credentials {
  readonly user: string;
  readonly password: string;
}

/** Where Nix looks, too. */
const DEFAULT_FILE = '/etc/nix/netrc';
/** What stands behind a backslash, where that is not meant itself: within quotes. */
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

/** A place on the web, and what its address says of who asks there. */
interface Asked {
  readonly place: URL;
  readonly credentials: Credentials | undefined;
  readonly netrcFile: string | undefined;
}

/**
 * Gives who asks at a place, as its address says, or a netrc file as it is now: for a user without a password, that user's.
 * Without a name, the file that Nix uses, if it can be read. Throws FAILED_PRECONDITION for a file that was named and
 * cannot be read.
 */
export function credentialsFor({ place, credentials, netrcFile }: Asked): () => Credentials | undefined {
  if (credentials && credentials.password !== '') return () => credentials;
  const user = credentials?.user;
  try {
    const parse = ([text]: readonly Buffer[]) => parseNetrc(text!.toString(), place.hostname, user);
    const netrc = new FreshFiles([netrcFile ?? DEFAULT_FILE], parse);
    return () => netrc.get() ?? credentials;
  } catch (error) {
    if (netrcFile === undefined && ['ENOENT', 'EACCES'].includes(systemCode(error) ?? ''))
      return () => credentials;
    throw new StoreError(
      'FAILED_PRECONDITION',
      `cannot read the netrc file ${netrcFile}: ${reasonOf(error)}`,
      { cause: error },
    );
  }
}

/** The credentials of the first entry that is for this host, or for any, and for this user, if there is one. */
export function parseNetrc(text: string, host: string, user?: string): Credentials | undefined {
  const wanted = comparable(host);
  // The definition of a macro goes up to an empty line.
  const words = text
    .replace(/^[ \t]*macdef\s[\s\S]*?(?:\n[ \t\r]*(?=\n)|$(?![\s\S]))/gim, '\n')
    .replace(/^[ \t]*#.*$/gm, '')
    .matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g);
  const next = () => {
    const { value } = words.next();
    return value && (value[2] ?? value[1]!.replace(/\\(.)/g, (_, one: string) => ESCAPES[one] ?? one));
  };
  let found: { login: string | undefined; password: string | undefined } | undefined;
  const isWanted = () => {
    // An entry that says nothing is none.
    if (found?.login === undefined && found?.password === undefined) return false;
    return user === undefined || (found.login ?? user) === user;
  };
  for (let word = next()?.toLowerCase(); word !== undefined; word = next()?.toLowerCase()) {
    if (word === 'machine' || word === 'default') {
      if (isWanted()) break;
      const isThis = word === 'default' || comparable(next() ?? '') === wanted;
      found = isThis ? { login: undefined, password: undefined } : undefined;
    } else if (word === 'login' || word === 'password' || word === 'account') {
      const value = next() ?? '';
      if (found && word !== 'account') found[word] = value;
    }
  }
  return isWanted() ? { user: found!.login ?? user ?? '', password: found!.password ?? '' } : undefined;
}

/** Names of hosts are the same in any case, and addresses of IPv6 in brackets or without. */
function comparable(host: string): string {
  return host.toLowerCase().replace(/^\[(.*)\]$/, '$1');
}
