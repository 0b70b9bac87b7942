import type { Replicas } from '../../util/async/replicas.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';

/** Directories that several services have. Each is read from whichever answers first. */
export class ReplicatedDirectoryService implements DirectoryService {
  protected readonly replicas: Replicas<DirectoryService>;

  constructor(replicas: Replicas<DirectoryService>) {
    this.replicas = replicas;
  }

  get target(): DirectoryService {
    const { writer } = this.replicas;
    return writer.target ?? writer;
  }

  get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    const options = { signal, isSomewhere: true };
    return this.replicas.ask((service, until) => service.get(digest, until), options);
  }

  async *getRecursive(digest: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    const given = new Set<string>();
    yield* this.replicas.resumed(
      async function* (this: ReplicatedDirectoryService) {
        // What one gives after another has gone is not in the same order for sure.
        const before = new Set(given);
        for await (const directory of await this.#begin(digest, signal)) {
          if (before.delete(directory.digest.hex)) continue;
          given.add(directory.digest.hex);
          yield directory;
        }
      }.bind(this),
      signal,
    );
  }

  /** The closure from whoever is the first to give something of it; nothing when it is not there. */
  async #begin(digest: Digest, signal?: AbortSignal): Promise<AsyncIterable<Directory>> {
    const begun = await this.replicas.ask(
      async (service, until) => {
        const directories = service.getRecursive(digest, until)[Symbol.asyncIterator]();
        const first = await directories.next();
        return first.done ? undefined : { first: first.value, directories };
      },
      { signal, isSomewhere: true },
    );
    return begun ? continued(begun.first, begun.directories) : none();
  }

  put(directory: Directory): Promise<void> {
    return this.replicas.writer.put(directory);
  }

  putMany(): DirectoryPutter {
    return this.replicas.writer.putMany();
  }

  flush(): Promise<void> {
    return this.replicas.writer.flush();
  }
}

async function* continued<T>(first: T, rest: AsyncIterator<T>): AsyncGenerator<T> {
  try {
    yield first;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

async function* none(): AsyncGenerator<never> {}
