import { LRUCache } from 'lru-cache';
import type { SecretKey } from '../../nix/key.ts';
import { Limiter } from '../../util/async/limiter.ts';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import { hasContents } from '../path-info/path-info.ts';
import { unitedSignatures } from '../path-info/united.ts';
import type { Services } from '../services.ts';
import { contentProblems, isFullySignedBy, rootText, signaturesBy } from './verify.ts';

/** Contents are read for at most so many paths at once. */
const VERIFIED_AT_ONCE = 2;
/** Paths remembered for a store that keeps no signatures. */
const MAX_REMEMBERED = 100_000;

/**
 * Signs path infos as they are served, those that were there before there was a key as well. The first time, the contents are
 * read and compared with what is claimed; then the signatures are kept in the store, if that can be.
 */
export class ServingSigner {
  readonly #store: Services;
  readonly #keys: readonly SecretKey[];
  readonly #places = new Limiter(VERIFIED_AT_ONCE);
  readonly #flights = new SingleFlight<boolean>();
  /** What was found right or wrong, by what is signed, the root with it: it may be another one the next time. */
  readonly #verdicts = new LRUCache<string, boolean>({ max: MAX_REMEMBERED });

  constructor(store: Services, keys: readonly SecretKey[]) {
    this.#store = store;
    this.#keys = keys;
  }

  /** With the signatures that it lacks; as it is where its contents are not here, or not what it says. */
  async signed(info: PathDescription, signal: AbortSignal): Promise<PathDescription> {
    const lacking = this.#keys.filter((key) => !isFullySignedBy(info, key.publicKey));
    if (lacking.length === 0 || !hasContents(info)) return info;
    const text = rootText(info);
    const isRight =
      this.#verdicts.get(text) ??
      (await this.#flights.run(text, (shared) => this.#verify(info, text, shared), signal));
    if (!isRight) return info;
    const signatures = lacking.flatMap((key) => signaturesBy(key, info));
    return { ...info, signatures: unitedSignatures(info.signatures, signatures) };
  }

  async #verify(info: PathInfo, text: string, signal: AbortSignal): Promise<boolean> {
    const problems = await this.#places.run(() => contentProblems(this.#store, info, signal), signal);
    const isRight = problems.length === 0;
    this.#verdicts.set(text, isRight);
    if (isRight) await this.#keep(info);
    else log.warn('a path is not signed', { path: info.storePath.absolute(), problems: problems.join('; ') });
    return isRight;
  }

  async #keep(info: PathInfo): Promise<void> {
    try {
      await this.#store.pathInfos.put({
        ...info,
        signatures: this.#keys.flatMap((key) => signaturesBy(key, info)),
      });
    } catch (error) {
      log.debug('a signature cannot be kept', { path: info.storePath.absolute(), error: messageOf(error) });
    }
  }
}
