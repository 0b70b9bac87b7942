import type { SecretKey } from '../../nix/key.ts';
import { invalid } from '../../util/errors.ts';
import type { Contents } from '../services.ts';
import { contentProblems, isRootSignedBy, signaturesBy } from '../trust/verify.ts';
import type { PathDescription, PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';
import { isSame, replacing, united, unitedSignatures } from './united.ts';

/**
 * Signs every path info that is put, after its contents have been read and all that it claims of them was found to
 * be so; once is enough. Signatures that are there are kept, those of the same path in the store as well.
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

  get target(): PathInfoService {
    return this.#inner.target ?? this.#inner;
  }

  /** Throws INVALID_ARGUMENT for a claim that is wrong. */
  async put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    signal?.throwIfAborted();
    await this.#contents.directories.flush();
    await this.#contents.blobs.flush();
    const present = await this.target.get(info.storePath.hash, signal);
    if (
      !present ||
      // With the root, so that the contents are those that were read then.
      !isRootSignedBy(present, [this.#key.publicKey]) ||
      !isSame(unsigned(present), unsigned(info))
    ) {
      const problems = await contentProblems(this.#contents, info, signal);
      if (problems.length > 0) throw invalid(`${info.storePath.absolute()}: ${problems.join('; ')}`);
    }
    const signatures = unitedSignatures(
      [],
      [...united(present, info).signatures, ...signaturesBy(this.#key, info)],
    );
    return this.#inner.put({ ...info, signatures }, signal);
  }

  async replace(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    return replacing(this.#inner, info, signal);
  }

  list(signal?: AbortSignal): AsyncIterable<PathInfo> {
    return this.#inner.list(signal);
  }
}

function unsigned(info: PathInfo): PathInfo {
  return { ...info, signatures: [] };
}
