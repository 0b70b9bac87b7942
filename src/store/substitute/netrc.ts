import { reasonOf, StoreError, systemCode } from '../../util/errors.ts';
import { FreshFiles } from '../../util/system/fresh-files.ts';

/** Who asks, as HTTP's Basic scheme has it. */
export interface Credentials {
  readonly user: string;
  readonly password: string;
}

/** Where Nix looks, too. */
const DEFAULT_FILE = '/etc/nix/netrc';

/**
 * Gives the credentials for a host in a netrc file, as it is now; `undefined` when it names none. Without a name, the file
 * that Nix uses, if it can be read. Throws FAILED_PRECONDITION for a file that was named and cannot be read.
 */
export function readNetrc(host: string, file?: string): () => Credentials | undefined {
  try {
    const netrc = new FreshFiles([file ?? DEFAULT_FILE], ([text]) => parseNetrc(text!.toString(), host));
    return () => netrc.get();
  } catch (error) {
    if (file === undefined && ['ENOENT', 'EACCES'].includes(systemCode(error) ?? '')) return () => undefined;
    throw new StoreError('FAILED_PRECONDITION', `cannot read the netrc file ${file}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/** The credentials of the first entry that is for this host, or for any. */
export function parseNetrc(text: string, host: string): Credentials | undefined {
  const wanted = comparable(host);
  // The definition of a macro goes up to an empty line.
  const words = text
    .replace(/^[ \t]*macdef\s[\s\S]*?(?:\n[ \t\r]*(?=\n)|$(?![\s\S]))/gm, '\n')
    .replace(/^[ \t]*#.*$/gm, '')
    .matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g);
  const next = () => {
    const { value } = words.next();
    return value && (value[2] ?? value[1]!.replace(/\\(.)/g, '$1'));
  };
  let found: { user: string; password: string } | undefined;
  for (let word = next(); word !== undefined; word = next()) {
    if (word === 'machine' || word === 'default') {
      if (found) break;
      if (word === 'default' || comparable(next() ?? '') === wanted) found = { user: '', password: '' };
    } else if (word === 'login' || word === 'password' || word === 'account') {
      const value = next() ?? '';
      if (found && word === 'login') found.user = value;
      if (found && word === 'password') found.password = value;
    }
  }
  return found && (found.user !== '' || found.password !== '') ? found : undefined;
}

/** Names of hosts are the same in any case, and addresses of IPv6 in brackets or without. */
function comparable(host: string): string {
  return host.toLowerCase().replace(/^\[(.*)\]$/, '$1');
}
