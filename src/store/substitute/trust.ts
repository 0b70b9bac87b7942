import type { PublicKey } from '../../nix/key.ts';
import { StoreError } from '../../util/errors.ts';
import type { PathDescription } from '../path-info/path-info.ts';
import { isAddressOfPath } from '../trust/content-address.ts';
import { isSignedBy } from '../trust/verify.ts';

/** Whom to believe. */
export interface Trust {
  readonly keys: readonly PublicKey[];
  /** Whatever the cache says. */
  readonly everything: boolean;
}

/**
 * Checks that a path may be taken: it has a signature of a trusted key, or its store path follows from its
 * contents, which are still to be compared, or the cache is trusted. Throws PERMISSION_DENIED.
 */
export function checkTrust(path: PathDescription, trust: Trust, address: string): void {
  if (trust.everything || isSignedBy(path, trust.keys) || isAddressOfPath(path)) return;
  const names = [...new Set(path.signatures.map(({ name }) => JSON.stringify(name)))];
  throw new StoreError(
    'PERMISSION_DENIED',
    `${path.storePath.absolute()} of ${address} has no valid signature of a key that is trusted ` +
      `(trusted: ${trust.keys.map(({ name }) => name).join(', ') || 'none'}; ` +
      `signatures: ${names.slice(0, 10).join(', ') || 'none'}); ` +
      'name its key by ?trusted-public-keys=, or trust the cache by ?trusted=1',
  );
}
