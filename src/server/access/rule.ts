import type { StorePath } from '../../nix/store-path.ts';
import { StoreError } from '../../util/errors.ts';
import type { Right, Token, TokenFile } from './tokens.ts';
import { hashOfToken, isFor, isOver } from './tokens.ts';

/** Somebody who wants something of a server, as far as they are known. */
export interface Caller {
  /** Whether they came through a unix socket that only those can reach who may do everything. */
  readonly isTrusted: boolean;
  /** Whether they have shown a certificate that was asked for. */
  readonly hasCertificate?: boolean;
  /** As in HTTP's header of that name. */
  readonly authorization?: string | undefined;
}

export interface AccessRuleOptions {
  /** Gives the tokens of the server; without any, everybody may read. */
  readonly tokens?: (() => TokenFile) | undefined;
  /** Without tokens: whether everybody may write, too. */
  readonly anonymous?: boolean | undefined;
  /** Whether nobody may write. */
  readonly readOnly?: boolean | undefined;
}

/** The permission of a caller: what it is for. */
export interface Grant {
  /** Whether it is for a store path. */
  isFor(path: StorePath): boolean;
}

/** The permission of those who may reach every store path. */
export const EVERYTHING: Grant = { isFor: () => true };

const WORDS: Readonly<Record<Right, string>> = { read: 'reading', write: 'uploads', admin: 'this' };

/** Who may do what with the store that a server serves. */
export class AccessRule {
  readonly #tokens: (() => TokenFile) | undefined;
  readonly #anonymous: boolean;
  readonly #readOnly: boolean;

  constructor({ tokens, anonymous = false, readOnly = false }: AccessRuleOptions = {}) {
    this.#tokens = tokens;
    this.#anonymous = anonymous;
    this.#readOnly = readOnly;
  }

  /** Throws UNAUTHENTICATED or PERMISSION_DENIED. */
  check({ isTrusted, hasCertificate = false, authorization }: Caller, right: Right): Grant {
    if (this.#readOnly && right !== 'read')
      throw new StoreError('PERMISSION_DENIED', 'this server takes no uploads: it is read-only');
    if (isTrusted || hasCertificate) return EVERYTHING;
    const word = wordIn(authorization);
    if (!this.#tokens) {
      if (right === 'read' || this.#anonymous) return EVERYTHING;
      throw new StoreError(
        'PERMISSION_DENIED',
        'this server takes uploads only through a unix socket; start it with --tokens, or --allow-anonymous-upload, to let others in',
      );
    }
    const { anonymous, tokens } = this.#tokens();
    if (word !== undefined) return grantOf(tokens, word, right);
    if (may(anonymous, right)) return EVERYTHING;
    throw new StoreError('UNAUTHENTICATED', `${WORDS[right]} needs a token here`);
  }
}

function grantOf(tokens: readonly Token[], word: string, right: Right): Grant {
  // Of hashes: the time that this takes tells nothing of the word.
  const sha256 = hashOfToken(word);
  const token = tokens.find((one) => one.sha256 === sha256);
  if (!token) throw new StoreError('UNAUTHENTICATED', 'this is no token of this server');
  if (isOver(token))
    throw new StoreError('UNAUTHENTICATED', `the token ${token.name} ended on ${token.expires}`);
  if (!may(token.rights, right))
    throw new StoreError('PERMISSION_DENIED', `the token ${token.name} is not for ${WORDS[right]}`);
  return { isFor: (path) => isFor(token, String(path)) };
}

function may(rights: readonly Right[], right: Right): boolean {
  return rights.includes(right) || rights.includes('admin');
}

/** The word in `Bearer WORD`, or as the password in `Basic base64(user:WORD)`. */
function wordIn(authorization = ''): string | undefined {
  const [, scheme, value] = /^(bearer|basic) +(\S+)$/i.exec(authorization.trim()) ?? [];
  if (scheme === undefined) return authorization.trim() === '' ? undefined : '';
  if (scheme.toLowerCase() === 'bearer') return value;
  const pair = Buffer.from(value!, 'base64').toString();
  const colon = pair.indexOf(':');
  return colon < 0 ? '' : pair.slice(colon + 1);
}
