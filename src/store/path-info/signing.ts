import type { SecretKey } from '../../nix/key.ts';
import { printNamed } from '../../nix/named-bytes.ts';
import type { Signature } from '../../nix/signature.ts';
import { fingerprint } from '../../nix/signature.ts';
import { invalid } from '../../util/errors.ts';
import type { Contents } from '../services.ts';
import { contentProblems } from '../trust/verify.ts';
import type { PathDescription, PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';

/**
 * Signs every path info that is put, after its contents have been read and all that it claims of them was found to
 * be so. Signatures that are there are kept, those of the same path in the store as well.
 */
export class SigningPathInfoService implements PathInfoService {
  readonly #inner: PathInfoService;
  readonly #contents: Contents;
  readonly #key: SecretKey;

  constructor(inner: PathInfoService, contents: Contents, key: SecretKey) {
    this.#inner = inner;
    this.#contents = contents;
    this.#key = key;
  }

  get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    return this.#inner.get(hash, signal);
  }

  describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathDescription | undefined> {
    return this.#inner.describe(hash, signal);
  }

  /** Throws INVALID_ARGUMENT for a claim that is wrong. */
  async put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    signal?.throwIfAborted();
    await this.#contents.directories.flush();
    await this.#contents.blobs.flush();
    const problems = await contentProblems(this.#contents, info, signal);
    if (problems.length > 0) throw invalid(`${info.storePath.absolute()}: ${problems.join('; ')}`);
    const present = await this.#inner.describe(info.storePath.hash, signal);
    const isSame = present && fingerprint(present) === fingerprint(info);
    const signatures = [...info.signatures, ...(isSame ? present.signatures : []), this.#key.sign(info)];
    return this.#inner.put({ ...info, signatures: eachOnce(signatures) }, signal);
  }

  list(signal?: AbortSignal): AsyncIterable<PathInfo> {
    return this.#inner.list(signal);
  }
}

function eachOnce(signatures: readonly Signature[]): Signature[] {
  return [...new Map(signatures.map((signature) => [printNamed(signature), signature])).values()];
}
