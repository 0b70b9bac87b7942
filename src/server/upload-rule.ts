import { createHash, timingSafeEqual } from 'node:crypto';
import { StoreError } from '../util/errors.ts';

/** Somebody who wants to put something into the store, as far as they are known. */
export interface Uploader {
  /** Whether they are on this machine, and not only forwarded by somebody who is. */
  readonly isLocal: boolean;
  /** Whether they have shown a certificate that was asked for. */
  readonly hasCertificate?: boolean;
  /** As in HTTP's header of that name. */
  readonly authorization?: string | undefined;
}

export interface UploadRuleOptions {
  /** Gives the token with which clients may upload; of the others, only those with a certificate may. */
  readonly token?: (() => string) | undefined;
  /** Without a token: whether those on other machines may upload, too. */
  readonly anonymous?: boolean | undefined;
  readonly readOnly?: boolean | undefined;
}

/** Who may put something into the store that a server serves. */
export class UploadRule {
  readonly #token: (() => string) | undefined;
  readonly #anonymous: boolean;
  readonly #readOnly: boolean;

  constructor({ token, anonymous = false, readOnly = false }: UploadRuleOptions) {
    this.#token = token;
    this.#anonymous = anonymous;
    this.#readOnly = readOnly;
  }

  /** Throws UNAUTHENTICATED or PERMISSION_DENIED. */
  check({ isLocal, hasCertificate = false, authorization }: Uploader): void {
    if (this.#readOnly)
      throw new StoreError('PERMISSION_DENIED', 'this server takes no uploads: it is read-only');
    if (hasCertificate) return;
    if (this.#token === undefined) {
      if (isLocal || this.#anonymous) return;
      throw new StoreError(
        'PERMISSION_DENIED',
        'this server takes uploads only from its own machine; start it with --upload-token-file to let others in',
      );
    }
    const given = tokenIn(authorization);
    if (given === undefined) throw new StoreError('UNAUTHENTICATED', 'uploads need a token here');
    // Of hashes, which are equally long: the time it takes tells nothing.
    if (!timingSafeEqual(hash(given), hash(this.#token())))
      throw new StoreError('UNAUTHENTICATED', 'this is not the token');
  }
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** The token in `Bearer TOKEN`, or as the password in `Basic base64(user:TOKEN)`. */
function tokenIn(authorization = ''): string | undefined {
  const [, scheme, value] = /^(bearer|basic) +(\S+)$/i.exec(authorization.trim()) ?? [];
  if (scheme === undefined) return undefined;
  if (scheme.toLowerCase() === 'bearer') return value;
  const pair = Buffer.from(value!, 'base64').toString();
  const colon = pair.indexOf(':');
  return colon < 0 ? undefined : pair.slice(colon + 1);
}

/** Headers that proxies add, and browsers for pages of others. */
const FORWARDING = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip', 'via', 'origin'];

/** Whether somebody else is behind a request than who sent it, by its headers. */
export function isForwarded(hasHeader: (name: string) => boolean): boolean {
  return FORWARDING.some(hasHeader);
}
