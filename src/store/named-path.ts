import { decodeBase32 } from '../nix/base32.ts';
import { STORE_DIR, StorePath } from '../nix/store-path.ts';
import { messageOf, UsageError } from '../util/errors.ts';

/** The ways to write a STORE_PATH on the command line, for help. */
export const STORE_PATH_FORMS = '/nix/store/HASH-NAME, HASH-NAME or HASH';

/** A store path as a person named it: in full, or by its hash alone. */
export interface NamedPath {
  /** 20 bytes. */
  readonly hash: Uint8Array;
  readonly name: string | undefined;
  /** As it was given, below `/nix/store`. */
  readonly shown: string;
}

/** A place in a store path, as a person named it. */
export interface NamedPlace {
  readonly path: NamedPath;
  /** Names from the root of the store path down. */
  readonly steps: readonly string[];
}

/** Reads a STORE_PATH argument. Throws a UsageError. */
export function parseStorePath(text: string): NamedPath {
  return parseBase(withoutStoreDir(text).replace(/\/+$/, ''), text);
}

/** Reads a STORE_PATH[/SUB] argument. Throws a UsageError. */
export function parsePlace(text: string): NamedPlace {
  const [base = '', ...rest] = withoutStoreDir(text).split('/');
  const path = parseBase(base, text);
  const steps = rest.filter((step) => step !== '' && step !== '.');
  if (steps.includes('..'))
    throw new UsageError(`".." cannot be used inside a store path: ${JSON.stringify(text)}`);
  return { path, steps };
}

function withoutStoreDir(text: string): string {
  return text.startsWith(`${STORE_DIR}/`) ? text.slice(STORE_DIR.length + 1) : text;
}

function parseBase(base: string, text: string): NamedPath {
  const shown = `${STORE_DIR}/${base}`;
  if (/^[0-9a-df-np-sv-z]{32}$/.test(base)) return { hash: decodeBase32(base), name: undefined, shown };
  if (base[32] !== '-' || base.includes('/')) {
    throw new UsageError(`not a store path: ${JSON.stringify(text.slice(0, 300))}; want ${STORE_PATH_FORMS}`);
  }
  try {
    const { hash, name } = StorePath.parse(base);
    return { hash, name, shown };
  } catch (error) {
    throw new UsageError(`not a store path: ${JSON.stringify(text.slice(0, 300))}: ${messageOf(error)}`);
  }
}
