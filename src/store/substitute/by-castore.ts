import { ServiceTreeCopier } from '../../castore/copy/services.ts';
import type { Node } from '../../castore/node.ts';
import type { PublicKey } from '../../nix/key.ts';
import type { NarInfo } from '../../nix/narinfo/narinfo.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import { calculateNar } from '../nar/calculate.ts';
import { rootInUrl } from '../nar/castore-url.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { Contents, Services } from '../services.ts';
import { Judge } from '../trust/judge.ts';
import type { BinaryCache } from './binary-cache.ts';
import type { CacheCastore } from './castore.ts';
import { castoreOf, withRest } from './castore.ts';

/** A NAR has more bytes than this for each file, link and directory. */
const ENTRY_BYTES = 64;
/** What may come besides what is said: something that has failed comes again. */
const SLACK_FACTOR = 2;
const SLACK_BYTES = 1 << 20;

export interface CastoreOptions {
  /** Whose signatures over roots count; without them, those of the keys that are trusted for the cache. */
  readonly rootKeys?: readonly PublicKey[] | undefined;
  /** What caches have by castore, if others may have it, too. */
  readonly mirrored?: Contents | undefined;
}

/** The paths of binary caches of which somebody has the castore contents. */
export class CastorePaths {
  /** What is here, and what can be had from elsewhere. */
  readonly contents: Contents;
  readonly #target: Services;
  readonly #options: CastoreOptions;

  constructor(caches: readonly CacheCastore[], target: Services, options: CastoreOptions) {
    this.contents = withRest(target, options.mirrored ?? castoreOf(caches));
    this.#target = target;
    this.#options = options;
  }

  async #isSomewhere({ castore }: BinaryCache, signal: AbortSignal): Promise<boolean> {
    return this.#options.mirrored !== undefined || ((await castore?.isThere(signal)) ?? false);
  }

  /** The path that a narinfo tells of, if its root is signed, and its contents may be had. */
  async signed(cache: BinaryCache, info: NarInfo, signal: AbortSignal): Promise<PathInfo | undefined> {
    const node = rootInUrl(info.url);
    if (!node) return undefined;
    const { storePath, references, narSize, narSha256, signatures, deriver } = info;
    const found = { storePath, node, references, narSize, narSha256, signatures, deriver };
    const judge = new Judge(this.#options.rootKeys ?? cache.trust.keys);
    const isSigned = judge.verdict(found) === 'believed';
    return isSigned && (await this.#isSomewhere(cache, signal)) ? found : undefined;
  }

  /** Takes the contents of a path, if they can be had and are right. */
  async take(cache: BinaryCache, info: NarInfo, options: TakeOptions): Promise<TakenTree | undefined> {
    const { signal } = options;
    const root = rootInUrl(info.url);
    if (!root || !(await this.#isSomewhere(cache, signal))) return undefined;
    try {
      return await takeTree(root, info, this.contents, this.#target, options);
    } catch (error) {
      signal.throwIfAborted();
      cache.castore?.failed(error);
      return undefined;
    }
  }
}

interface TakenTree {
  readonly node: Node;
  readonly narSize: bigint;
  readonly narSha256: Uint8Array;
}

interface TakeOptions {
  /** Hears that something has come. */
  readonly onProgress: () => void;
  readonly signal: AbortSignal;
}

/**
 * Takes what is missing of a tree into a store, and finds out whether its NAR is the one of a narinfo. Throws DATA_LOSS when it
 * is not, or the tree cannot be had.
 */
async function takeTree(
  root: Node,
  info: NarInfo,
  from: Contents,
  to: Services,
  { onProgress, signal }: TakeOptions,
): Promise<TakenTree> {
  const limit = Number(info.narSize) * SLACK_FACTOR + SLACK_BYTES;
  const stop = new AbortController();
  const progress = { objects: 0, bytes: 0 };
  const count = () => {
    onProgress();
    if (progress.bytes + progress.objects * ENTRY_BYTES > limit)
      stop.abort(damaged('its tree has more in it than its NAR'));
  };
  const copier = new ServiceTreeCopier(from, to, { progress, onProgress: count });
  await copier.copy(root, AbortSignal.any([signal, stop.signal]));
  await to.directories.flush();
  await to.blobs.flush();
  const { narSize, narSha256 } = await calculateNar(to, root, signal);
  if (narSize !== info.narSize || !asBuffer(narSha256).equals(info.narSha256))
    throw damaged('its tree has another NAR than the one that is signed');
  return { node: root, narSize, narSha256 };
}
