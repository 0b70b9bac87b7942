import { SingleFlight } from '../../util/async/single-flight.ts';
import { Tolerant } from '../../util/async/tolerant.ts';
import { latin1 } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import type { PathDescription, PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';
import { replacing, united } from './united.ts';

/** How long a far store that takes no puts is waited for before one, in milliseconds: it may have signatures. */
const ASK_MS = 3000;

/**
 * Path infos of a far service, kept in a near one; what near has is not asked for again. A near service that fails
 * is done without. Puts go to near alone, which then is a store of its own in front of another; or to far, and then
 * near keeps copies. A store only keeps those of paths whose contents it has.
 */
export class CachedPathInfoService implements PathInfoService {
  readonly #near: PathInfoService;
  readonly #far: PathInfoService;
  readonly #puts: 'near' | 'far';
  readonly #reading = new Tolerant('cannot read path infos from the near store');
  readonly #asking = new Tolerant('cannot ask the far store for signatures');
  readonly #writing = new Tolerant('cannot keep path infos in the near store');
  readonly #flights = new SingleFlight<PathInfo | undefined>();
  /** Counts puts: what was fetched before one must not be kept over it. */
  #puttings = 0;

  constructor(near: PathInfoService, far: PathInfoService, puts: 'near' | 'far') {
    this.#near = near;
    this.#far = far;
    this.#puts = puts;
  }

  get target(): PathInfoService {
    const target = this.#puts === 'near' ? this.#near : this.#far;
    return target.target ?? target;
  }

  get isCache(): boolean {
    return this.target.isCache === true;
  }

  async get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    const near = await this.#reading.try(() => this.#near.get(hash, signal), signal);
    return near ?? this.#flights.run(latin1(hash), (shared) => this.#fetch(hash, shared), signal);
  }

  async #fetch(hash: Uint8Array, signal: AbortSignal): Promise<PathInfo | undefined> {
    const before = this.#puttings;
    const info = await this.#far.get(hash, signal);
    if (info)
      this.#writing.later(async () => {
        if (this.#puttings !== before) return;
        if (this.#keepsCopies) await this.#near.put(info);
        else await this.#near.putIfWhole?.(info);
      });
    return info;
  }

  get #keepsCopies(): boolean {
    return this.#puts === 'far' && this.#near.isCache === true;
  }

  async describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathDescription | undefined> {
    const near = await this.#reading.try(() => this.#near.describe(hash, signal), signal);
    return near ?? this.#far.describe(hash, signal);
  }

  async put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    this.#puttings++;
    if (this.#puts === 'near') {
      const { hash } = info.storePath;
      const soon = AbortSignal.any([AbortSignal.timeout(ASK_MS), ...(signal ? [signal] : [])]);
      const behind = await this.#asking.try(() => this.#far.describe(hash, soon), signal);
      return this.#near.put(united(behind, info), signal);
    }
    const stored = await this.#far.put(info, signal);
    await this.#copyOf(stored, signal);
    return stored;
  }

  async replace(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    this.#puttings++;
    if (this.#puts === 'near') return replacing(this.#near, info, signal);
    const stored = await replacing(this.#far, info, signal);
    await this.#copyOf(stored, signal);
    return stored;
  }

  /** What was put far takes the place of what near has. */
  async #copyOf(stored: PathInfo, signal: AbortSignal | undefined): Promise<void> {
    this.#puttings++;
    await this.#writing.try(async () => {
      const { hash } = stored.storePath;
      if (this.#keepsCopies || (await this.#near.get(hash, signal)))
        await (this.#near.replace ? this.#near.replace(stored, signal) : this.#near.put(stored, signal));
    }, signal);
  }

  /** Lists the far service, after what the near one has of its own if that takes the puts. */
  async *list(signal?: AbortSignal): AsyncGenerator<PathInfo> {
    if (this.#puts === 'near') yield* this.#near.list(signal);
    try {
      for await (const info of this.#far.list(signal)) {
        if (this.#puts === 'near' && (await this.#near.get(info.storePath.hash, signal))) continue;
        yield info;
      }
    } catch (error) {
      // What a binary cache has cannot be told.
      const untold = error instanceof StoreError && error.code === 'UNIMPLEMENTED';
      if (this.#puts === 'far' || !untold) throw error;
    }
  }

  /** Resolves when what was fetched has been kept. */
  async settle(): Promise<void> {
    await this.#writing.settle();
  }
}
