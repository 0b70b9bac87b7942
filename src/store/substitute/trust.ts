import type { PublicKey } from '../../nix/key.ts';
import { StoreError } from '../../util/errors.ts';
import type { PathDescription } from '../path-info/path-info.ts';
import { isAddressOfPath } from '../trust/content-address.ts';
import { isSignedBy, untrusted } from '../trust/verify.ts';

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
  throw new StoreError(
    'PERMISSION_DENIED',
    `${untrusted(path, address, trust.keys)}; ` +
      'name its key by ?trusted-public-keys=, or trust the cache by ?trusted=1',
  );
}
