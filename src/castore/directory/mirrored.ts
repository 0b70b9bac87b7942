import { inTime } from '../../util/async/in-time.ts';
import type { Replica } from '../../util/async/replica.ts';
import { damaged, WrongContents } from '../../util/errors.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import { ReplicatedDirectoryService } from './replicated.ts';

/** Who sends nothing more of a tree for so long is left, in milliseconds. */
const SILENT_MS = 5000;

/** What a source has begun to give. */
interface Begun {
  readonly from: Replica;
  readonly first: Directory;
  readonly rest: AsyncIterator<Directory>;
}

/** Directories that are read from the fastest of several mirrors, and from a store where none has them: replicas of a `MirrorGroup`. */
export class MirroredDirectoryService extends ReplicatedDirectoryService {
  /** A tree of which one source has only a part, or gives a wrong one, goes on from another. */
  override async *getRecursive(digest: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    const given = new Set<string>();
    const without = new Set<Replica>();
    for (;;) {
      const begun = await this.#beginWithout(digest, without, signal);
      if (!begun && given.size > 0) throw damaged(`the tree of directory ${digest} has gone`);
      if (!begun) return;
      const { from } = begun;
      try {
        for await (const directory of all(begun)) {
          // What one gives after another is not in the same order for sure.
          if (given.has(directory.digest.hex)) continue;
          given.add(directory.digest.hex);
          yield directory;
        }
        return;
      } catch (error) {
        if (signal?.aborted || from.isEssential) throw error;
        if (error instanceof WrongContents) from.lied(error);
        without.add(from);
      }
    }
  }

  #beginWithout(
    digest: Digest,
    without: ReadonlySet<Replica>,
    signal: AbortSignal | undefined,
  ): Promise<Begun | undefined> {
    return this.replicas.ask(
      async (service, until, from) => {
        const rest = service.getRecursive(digest, until)[Symbol.asyncIterator]();
        const first = await rest.next();
        return first.done ? undefined : { from, first: first.value, rest };
      },
      { signal, isSomewhere: true, without },
    );
  }
}

async function* all({ from, first, rest }: Begun): AsyncGenerator<Directory> {
  const next = () => (from.isEssential ? rest.next() : inTime(rest.next(), SILENT_MS));
  try {
    yield first;
    for (let directory = await next(); !directory.done; directory = await next()) yield directory.value;
  } finally {
    // Not waited for: it may never answer.
    rest.return?.()?.catch(() => {});
  }
}
