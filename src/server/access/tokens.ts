import { createHash } from 'node:crypto';
import { invalid, messageOf } from '../../util/errors.ts';
import { matches } from './pattern.ts';

/** What somebody may do; who may `admin` may do everything. */
export const RIGHTS = ['read', 'write', 'admin'] as const;
export type Right = (typeof RIGHTS)[number];

/** A word by which a client shows what it may do; the word itself is kept nowhere. */
export interface Token {
  readonly name: string;
  /** The SHA-256 of the word, in hexadecimal. */
  readonly sha256: string;
  readonly rights: readonly Right[];
  /** When it ends, as ISO 8601 has it. */
  readonly expires?: string;
  /** Patterns of the store paths that it is for; without any, for all. */
  readonly paths?: readonly string[];
}

/** The file of a server's tokens: a JSON object. */
export interface TokenFile {
  /** What those without a token may do. */
  readonly anonymous: readonly Right[];
  readonly tokens: readonly Token[];
}

export const NO_TOKENS: TokenFile = { anonymous: ['read'], tokens: [] };

/** Longest file that is read, in bytes. */
const MAX_LENGTH = 4 << 20;
const NAME = /^[\w.@-]{1,100}$/;
const MAX_PATTERN_LENGTH = 256;

export function checkTokenName(name: string): string {
  if (NAME.test(name)) return name;
  throw invalid(
    `${JSON.stringify(name)} cannot name a token: want up to 100 letters, digits, dots, dashes, _ and @`,
  );
}

export function hashOfToken(word: string): string {
  return createHash('sha256').update(word).digest('hex');
}

/** Reads the file. Throws INVALID_ARGUMENT that says what is wrong with which token. */
export function parseTokenFile(bytes: Uint8Array): TokenFile {
  if (bytes.length > MAX_LENGTH)
    throw invalid(`it has ${bytes.length} bytes, ${MAX_LENGTH} at most are read`);
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString());
  } catch (error) {
    throw invalid(`it is not JSON: ${messageOf(error)}`);
  }
  const file = fields(value, 'it', ['anonymous', 'tokens']);
  const tokens = list(file.tokens ?? [], 'tokens').map((one, i) => token(one, `tokens[${i}]`));
  const names = new Set(tokens.map(({ name }) => name));
  if (names.size < tokens.length) throw invalid('two tokens have the same name');
  const anonymous = rights(file.anonymous ?? ['read'], 'anonymous');
  // A signing key beside that would sign anything for anybody.
  if (anonymous.some((right) => right !== 'read')) throw invalid('anonymous: nothing but read is possible');
  return { anonymous, tokens };
}

export function printTokenFile(file: TokenFile): string {
  return `${JSON.stringify(file, undefined, 2)}\n`;
}

/** Whether a token has ended. */
export function isOver({ expires }: Token, now = Date.now()): boolean {
  return expires !== undefined && Date.parse(expires) <= now;
}

/** Whether a token is for a store path, by its name without the directory. */
export function isFor({ paths }: Pick<Token, 'paths'>, baseName: string): boolean {
  return paths === undefined || paths.some((pattern) => matches(pattern, baseName));
}

function token(value: unknown, where: string): Token {
  const { name, sha256, expires, paths, ...rest } = fields(value, where, [
    'name',
    'sha256',
    'rights',
    'expires',
    'paths',
  ]);
  const wrong = (key: string, want: string) => invalid(`${where}.${key}: want ${want}`);
  if (typeof name !== 'string' || !NAME.test(name)) throw wrong('name', 'a name');
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256))
    throw wrong('sha256', '64 hexadecimal digits');
  if (expires !== undefined && (typeof expires !== 'string' || Number.isNaN(Date.parse(expires))))
    throw wrong('expires', 'a time such as 2027-01-31T12:00:00Z');
  return {
    name,
    sha256,
    rights: rights(rest.rights, `${where}.rights`),
    ...(expires === undefined ? {} : { expires }),
    ...(paths === undefined
      ? {}
      : { paths: list(paths, `${where}.paths`).map((one) => pattern(one, `${where}.paths`)) }),
  };
}

function rights(value: unknown, where: string): Right[] {
  return list(value, where).map((one) => {
    const right = RIGHTS.find((known) => known === one);
    if (!right) throw invalid(`${where}: ${JSON.stringify(one)} is none of ${RIGHTS.join(', ')}`);
    return right;
  });
}

function pattern(value: unknown, where: string): string {
  if (typeof value === 'string' && value !== '' && value.length <= MAX_PATTERN_LENGTH) return value;
  throw invalid(`${where}: want patterns such as *-hello-*, of up to ${MAX_PATTERN_LENGTH} characters`);
}

function list(value: unknown, where: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw invalid(`${where}: want a list`);
}

function fields(value: unknown, where: string, known: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(`${where}: want an object`);
  for (const key of Object.keys(value))
    if (!known.includes(key)) throw invalid(`${where}: unknown key ${JSON.stringify(key)}`);
  return value as Record<string, unknown>;
}
