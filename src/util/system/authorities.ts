import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { reasonOf, UsageError } from '../errors.ts';
import { FreshFiles } from './fresh-files.ts';

/** Variables that name the file of those that are trusted, as for Nix. The first one that is set counts. */
const VARIABLES = ['NIX_SSL_CERT_FILE', 'SSL_CERT_FILE'] as const;
const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

let isDone = false;

/**
 * Sees to it that TLS trusts the authorities that this machine trusts, besides those that Node brings; or those in the file
 * that a variable names, and no others. Due before the first connection. Throws a UsageError for a file that is none.
 */
export function trustAuthorities(): void {
  if (isDone) return;
  const variable = VARIABLES.find((name) => process.env[name]);
  const trusted = variable
    ? authoritiesIn(process.env[variable]!, variable)
    : [...getCACertificates('default'), ...getCACertificates('system')];
  setDefaultCACertificates([...new Set(trusted)]);
  isDone = true;
}

function authoritiesIn(path: string, variable: string): string[] {
  try {
    const found = readFileSync(path, 'utf8').match(PEM);
    if (found) return found;
  } catch (error) {
    throw new UsageError(`cannot read ${variable}=${path}: ${reasonOf(error)}`, { cause: error });
  }
  throw new UsageError(`${variable}=${path} has no certificates (PEM)`);
}

/** Gives what is in the file of an authority, as it is now. Throws a UsageError for one that cannot be read. */
export function authorityIn(path: string | undefined): (() => Buffer) | undefined {
  if (path === undefined) return undefined;
  try {
    // A mount goes to `/` later.
    const file = new FreshFiles([resolve(path)], ([bytes]) => bytes!);
    return () => file.get();
  } catch (error) {
    throw new UsageError(`cannot read ca=${path}: ${reasonOf(error)}`, { cause: error });
  }
}
