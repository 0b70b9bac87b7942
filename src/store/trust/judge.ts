import { createHash } from 'node:crypto';
import type { PublicKey } from '../../nix/key.ts';
import { castoreName } from '../../nix/signature.ts';
import { StoreError } from '../../util/errors.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import { isAddressOfPath } from './content-address.ts';
import { isRootSignedBy, isSignedBy, rootText, untrusted } from './verify.ts';

/** Signatures of each of the two kinds that are looked at: a peer may send any number under the name of a trusted key. */
const MAX_TRIED = 16;
/** Texts remembered whose signature was good. */
const MAX_REMEMBERED = 10_000;

/** What is to be thought of a path info: believed as it is, once its whole NAR has been checked, or not at all. */
export type Verdict = 'believed' | 'unchecked' | 'refused';

/** Tells by signatures and content address what is to be thought of the path infos of others. */
export class Judge {
  readonly #keys: readonly PublicKey[];
  readonly #castoreNames: ReadonlySet<string>;
  readonly #names: ReadonlySet<string>;
  /** Once a signature of a text was good, the text is, whoever brings it. */
  readonly #believed = new Set<string>();

  constructor(keys: readonly PublicKey[]) {
    this.#keys = keys;
    this.#names = new Set(keys.map(({ name }) => name));
    this.#castoreNames = new Set(keys.map(({ name }) => castoreName(name)));
  }

  verdict(info: PathInfo): Verdict {
    // Of a text with many references little is kept.
    const text = createHash('sha256').update(rootText(info)).digest('base64');
    if (this.#believed.has(text)) return 'believed';
    if (isRootSignedBy(withSignatures(info, this.#castoreNames), this.#keys)) {
      if (this.#believed.size >= MAX_REMEMBERED) this.#believed.clear();
      this.#believed.add(text);
      return 'believed';
    }
    return this.vouchesFor(info) ? 'unchecked' : 'refused';
  }

  /** Whether a description is right, if the contents are those that it tells of. */
  vouchesFor(described: PathDescription): boolean {
    return isSignedBy(withSignatures(described, this.#names), this.#keys) || isAddressOfPath(described);
  }

  /** Says why a path info is refused. */
  refusal(described: PathDescription, where: string): StoreError {
    return new StoreError('PERMISSION_DENIED', untrusted(described, where, this.#keys));
  }
}

/** With only some of the signatures of these names. */
function withSignatures<T extends PathDescription>(info: T, names: ReadonlySet<string>): T {
  const wanted = info.signatures.filter(({ name }) => names.has(name));
  return { ...info, signatures: wanted.slice(0, MAX_TRIED) };
}
