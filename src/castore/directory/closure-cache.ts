import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { SingleFlight } from '../../util/single-flight.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';

/**
 * A cache of directories before a service that may know only whole closures by their roots. What comes from
 * there is kept near before any of it is given out, children before their parents: so whatever is near has
 * all that is below it near as well, and no child has ever to be asked for alone. A near service that
 * fails costs a warning, and speed.
 */
export class ClosureCache implements DirectoryService {
  readonly #near: () => DirectoryService;
  readonly #far: DirectoryService;
  readonly #flights = new SingleFlight<Directory[]>();
  #complained = false;

  /** `near` is called when it is first needed. */
  constructor(near: () => DirectoryService, far: DirectoryService) {
    this.#near = near;
    this.#far = far;
  }

  async get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    const near = await this.#trying(() => this.#near().get(digest, signal));
    return near ?? (await this.#fetch(digest, signal))[0];
  }

  async *getRecursive(digest: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    const near = await this.#trying(() => gathered(this.#near().getRecursive(digest, signal)));
    yield* near?.length ? near : await this.#fetch(digest, signal);
  }

  /** A closure from afar, which is near when this resolves; nothing when it is not there. */
  #fetch(digest: Digest, signal?: AbortSignal): Promise<Directory[]> {
    const fetch = async (shared: AbortSignal) => {
      const closure = await gathered(this.#far.getRecursive(digest, shared));
      await this.#keep(closure.toReversed());
      return closure;
    };
    return this.#flights.run(digest.hex, fetch, signal);
  }

  /** `directories` come children first. */
  async #keep(directories: readonly Directory[]): Promise<void> {
    await this.#trying(async () => {
      const near = this.#near();
      for (const directory of directories) await near.put(directory);
      await near.flush();
    });
  }

  async put(directory: Directory): Promise<void> {
    await this.#far.put(directory);
    await this.#keep([directory]);
  }

  putMany(): DirectoryPutter {
    const putter = this.#far.putMany();
    const added: Directory[] = [];
    return {
      add: async (directory) => {
        await putter.add(directory);
        added.push(directory);
      },
      close: async () => {
        const root = await putter.close();
        await this.#keep(added);
        return root;
      },
    };
  }

  flush(): Promise<void> {
    return this.#far.flush();
  }

  async #trying<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!this.#complained) log.warn('the cache of directories fails', { error: messageOf(error) });
      this.#complained = true;
      return undefined;
    }
  }
}

async function gathered<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}
