import type { Channel } from '../../proto/grpc/channel.ts';
import { foundOrNot } from '../../proto/grpc/found.ts';
import { DIRECTORY } from '../../proto/grpc/methods.ts';
import { asBuffer } from '../../util/bytes.ts';
import { type StoreError, WrongContents } from '../../util/errors.ts';
import { Spool } from '../../util/spool.ts';
import { type Digest, EMPTY_DIGEST } from '../digest.ts';
import { Directory } from '../directory.ts';
import { RootFirstValidator } from './root-first.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';
import { ClosureValidator } from './service.ts';

/** Directories of a peer. Nothing it sends is believed. */
export class GrpcDirectoryService implements DirectoryService {
  readonly #channel: Channel;

  constructor(channel: Channel) {
    this.#channel = channel;
    channel.detect(DIRECTORY.get.service, async (dialect) => {
      const messages = channel.serverStreamAs(dialect, DIRECTORY.get, { digest: EMPTY_DIGEST.bytes });
      await messages.next();
      await messages.return(undefined);
    });
  }

  async get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    // Read to the end of the stream: a peer takes a connection that cancels many calls for an attack.
    const directories: Directory[] = [];
    const messages = this.#channel.serverStream(DIRECTORY.get, { digest: digest.bytes }, signal);
    for (let next = await foundOrNot(messages.next()); next && !next.done; next = await messages.next()) {
      directories.push(this.#decode(next.value));
      if (directories.length > 1) throw this.#lie(`sent more than directory ${digest}`);
    }
    const directory = directories[0];
    if (directory && !directory.digest.equals(digest)) {
      throw this.#lie(`sent directory ${directory.digest} for ${digest}`);
    }
    return directory;
  }

  async *getRecursive(digest: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    const validator = new RootFirstValidator(digest, (what) => this.#lie(what));
    let isAgain = false;
    yield* this.#channel.resumed(() => {
      const rest = this.#closure(digest, validator, isAgain, signal);
      isAgain = true;
      return rest;
    }, signal);
    validator.finish();
  }

  /** What a stream brings of a closure. Another one than the first leaves out what had come before it. */
  async *#closure(
    digest: Digest,
    validator: RootFirstValidator,
    isAgain: boolean,
    signal?: AbortSignal,
  ): AsyncGenerator<Directory> {
    const request = { digest: digest.bytes, recursive: true };
    const messages = this.#channel.serverStream(DIRECTORY.get, request, signal);
    const before = isAgain ? validator.seen() : undefined;
    for (;;) {
      const next = await foundOrNot(messages.next());
      if (!next || next.done) return;
      const directory = this.#decode(next.value);
      if (before?.delete(directory.digest.hex)) continue;
      validator.add(directory);
      yield directory;
    }
  }

  #decode(bytes: Uint8Array): Directory {
    try {
      return Directory.decode(bytes);
    } catch (error) {
      throw this.#lie('sent an invalid directory', error);
    }
  }

  #lie(what: string, cause?: unknown): StoreError {
    return new WrongContents(`${this.#channel.address} ${what}`, { cause });
  }

  async put(directory: Directory): Promise<void> {
    // A directory alone is a closure only when it has no children; the service may know them already.
    const response = await this.#channel.clientStreamAgain(DIRECTORY.put, () => [directory.bytes]);
    this.#check(directory.digest, response.rootDigest);
  }

  /**
   * The closure goes up when it is complete: a stream that waited for contents to be sent would be taken for a dead one,
   * and what is cut short can be sent again.
   */
  putMany(): DirectoryPutter {
    const validator = new ClosureValidator();
    const spool = new Spool();
    return {
      add: async (directory) => {
        if (validator.add(directory)) spool.add(directory.bytes);
      },
      close: async () => {
        const root = validator.finish();
        const { rootDigest } = await this.#channel.clientStreamAgain(DIRECTORY.put, () => spool);
        spool.close();
        this.#check(root, rootDigest);
        return root;
      },
    };
  }

  #check(root: Digest, got: Uint8Array | null | undefined): void {
    if (!got || !asBuffer(root.bytes).equals(got))
      throw this.#lie(`stored something else than directory ${root}`);
  }

  /** A put is acknowledged when it is durable. */
  async flush(): Promise<void> {}
}
