import { LRUCache } from 'lru-cache';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { Tolerant } from '../../util/async/tolerant.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';
import { walkClosure } from './service.ts';

/** Encoded directories that are held while a closure arrives. */
const MAX_CLOSURE_BYTES = 512 << 20;
/** Encoded directories that are kept in memory where the near service does not take them. */
const MAX_SPARE_BYTES = 32 << 20;

/** A closure by digest, as it came: each directory after one that refers to it. */
type DirectoriesByDigest = ReadonlyMap<string, Directory>;

/**
 * Directories of a far service, kept in a near one. What near lacks is fetched with everything below it, once for
 * all who ask; a near service that fails is done without. Puts go to one of the two, and to that one only.
 */
export class CachedDirectoryService implements DirectoryService {
  readonly #near: DirectoryService;
  readonly #far: DirectoryService;
  readonly #target: DirectoryService;
  readonly #reading = new Tolerant('cannot read directories from the near store');
  readonly #writing = new Tolerant('cannot keep directories in the near store');
  readonly #flights = new SingleFlight<DirectoriesByDigest>();
  readonly #spare = new LRUCache<string, Directory>({
    maxSize: MAX_SPARE_BYTES,
    sizeCalculation: ({ bytes }) => bytes.length + 1,
  });

  constructor(near: DirectoryService, far: DirectoryService, puts: 'near' | 'far') {
    this.#near = near;
    this.#far = far;
    this.#target = puts === 'near' ? near : far;
  }

  get target(): DirectoryService {
    return this.#target.target ?? this.#target;
  }

  async get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    return (await this.#kept(digest, signal)) ?? (await this.#closure(digest, signal)).get(digest.hex);
  }

  async *getRecursive(root: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    // Asked for from its root: there are far services that know a directory only so.
    let fetched: DirectoriesByDigest | undefined;
    const get = async (digest: Digest) => {
      const known = fetched?.get(digest.hex) ?? (await this.#kept(digest, signal));
      if (known || fetched) return known;
      fetched = await this.#closure(root, signal);
      return fetched.get(digest.hex);
    };
    yield* walkClosure(root, get, (digest) => damaged(`directory ${digest} is missing`));
  }

  async #kept(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    const near = await this.#reading.try(() => this.#near.get(digest, signal), signal);
    return near ?? this.#spare.get(digest.hex);
  }

  #closure(root: Digest, signal?: AbortSignal): Promise<DirectoriesByDigest> {
    return this.#flights.run(root.hex, (shared) => this.#fetch(root, shared), signal);
  }

  async #fetch(root: Digest, signal: AbortSignal): Promise<DirectoriesByDigest> {
    const closure = new Map<string, Directory>();
    let bytes = 0;
    for await (const directory of this.#far.getRecursive(root, signal)) {
      bytes += directory.bytes.length;
      if (bytes > MAX_CLOSURE_BYTES) {
        throw new StoreError('FAILED_PRECONDITION', `the directories below ${root} are too large to be kept`);
      }
      closure.set(directory.digest.hex, directory);
    }
    const kept = await this.#writing.try(async () => {
      for (const directory of leavesFirst(root, closure)) await this.#near.put(directory);
      await this.#near.flush();
      return true;
    });
    if (!kept) for (const [hex, directory] of closure) this.#spare.set(hex, directory);
    return closure;
  }

  put(directory: Directory): Promise<void> {
    return this.#target.put(directory);
  }

  putMany(): DirectoryPutter {
    return this.#target.putMany();
  }

  flush(): Promise<void> {
    return this.#target.flush();
  }
}

/** The directories of a closure that are there, each after all that it refers to. */
function* leavesFirst(root: Digest, closure: DirectoriesByDigest): Generator<Directory> {
  const done = new Set<string>();
  const path = [{ hex: root.hex, children: childrenOf(closure.get(root.hex)) }];
  while (path.length > 0) {
    const { hex, children } = path.at(-1)!;
    const next = children.pop();
    if (next === undefined) {
      path.pop();
      const directory = closure.get(hex);
      if (directory && !done.has(hex)) yield directory;
      done.add(hex);
    } else if (!done.has(next)) {
      path.push({ hex: next, children: childrenOf(closure.get(next)) });
    }
  }
}

function childrenOf(directory: Directory | undefined): string[] {
  return directory ? Array.from(directory.children(), ({ digest }) => digest.hex) : [];
}
