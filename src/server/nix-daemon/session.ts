import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Operation } from '../../nix/worker/protocol.ts';
import {
  CLIENT_MAGIC,
  DAEMON_MAGIC,
  NEWEST_VERSION,
  OLDEST_VERSION,
  OPERATION,
  REPLY,
  SINCE,
  TRUST,
} from '../../nix/worker/protocol.ts';
import { WireReader } from '../../nix/worker/reader.ts';
import { WireWriter } from '../../nix/worker/writer.ts';
import type { Code } from '../../util/errors.ts';
import { invalid, messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { RequestCounts } from '../metrics/requests.ts';
import { UPLOAD_MEMORY } from '../shares/budget.ts';
import type { Awaited, Holding, Share } from '../shares/holding.ts';
import type { Place } from './places.ts';
import type { Client, Operations, Request } from './request.ts';
import type { SocketParts } from './socket-parts.ts';

/** What we say we are: some clients show it. */
const DAEMON_NAME = 'tvix-store';
/** How important an error is: the most that there is. */
const ERROR_LEVEL = 0;
/** Of an error, so many characters are told. */
const MAX_MESSAGE_LENGTH = 10_000;
/** How long a request that has begun may stand still, in milliseconds: either way. */
const SILENCE_MS = 60_000;
/** What a request may take in memory, and its answer, without being counted: most are far below it. In bytes. */
const UNCOUNTED = 4096;

const NAMES = new Map<number, Operation>(
  Object.entries(OPERATION).map(([name, number]) => [number, name as Operation]),
);

/** The surroundings of a session. */
export interface SessionOptions {
  readonly operations: Operations;
  /** Throws for a client that may only read. */
  readonly mayWrite: () => void;
  /** What it holds in memory is counted there. */
  readonly share: () => Share;
  readonly place: Place;
  readonly counts: RequestCounts;
  /** Called when a request begins. */
  readonly onRequest: () => void;
}

/** One client of the daemon, from its first word to its last. */
export class Session {
  readonly #socket: Socket;
  readonly #options: SessionOptions;
  readonly #from: WireReader;
  readonly #to = new WireWriter();
  readonly #gone = new AbortController();
  /** Whether the client owes us the rest of something. */
  #isWaiting = true;
  #isStopping = false;
  /** The request that is under way, and how it has failed if it has; for the metrics. */
  #operation: Operation | 'none' = 'none';
  #failure: Code | undefined;
  /** Of the request that is under way, as soon as there is something to be counted. */
  #holding: Holding | undefined;
  /** What it may still take before that. */
  #uncounted = 0;

  constructor(parts: SocketParts, options: SessionOptions) {
    const { socket } = parts;
    this.#socket = socket;
    this.#options = options;
    const next = async () => {
      const part = await (this.#isWaiting ? this.#owed(parts) : parts.next());
      options.counts.received += part.value?.length ?? 0;
      return part;
    };
    this.#from = new WireReader({ next });
    socket.once('close', () => {
      this.#gone.abort(new StoreError('CANCELLED', 'the client has hung up'));
      this.#holding?.close();
    });
    socket.once('timeout', () => {
      log.warn('a client of the Nix daemon stands still', { seconds: SILENCE_MS / 1000 });
      socket.destroy();
    });
  }

  /** Serves until the client has gone, or it has been told to stop. */
  async run(): Promise<void> {
    try {
      const client = await this.#greet();
      while (!this.#isStopping) {
        // Between requests it may take as long as it likes.
        this.#holding?.close();
        this.#holding = undefined;
        this.#isWaiting = false;
        this.#options.place.await('request');
        if (await this.#from.isAtEnd()) break;
        this.#isWaiting = true;
        this.#options.place.await(undefined);
        this.#options.onRequest();
        await this.#counted(() => this.#answer(client));
      }
    } catch (error) {
      log.debug('a client of the Nix daemon is sent away', { error: messageOf(error) });
    } finally {
      this.#holding?.close();
      this.#socket.destroySoon();
    }
  }

  /** Ends when nothing is under way. */
  stop(): void {
    this.#isStopping = true;
    if (!this.#isWaiting) this.#socket.destroy();
  }

  async #greet(): Promise<Client> {
    this.#begin();
    if ((await this.#from.number()) !== CLIENT_MAGIC) throw invalid('this is not a client of Nix');
    await this.#send(this.#to.number(DAEMON_MAGIC).number(NEWEST_VERSION));
    const theirs = await this.#from.count('the version');
    if (theirs < OLDEST_VERSION)
      throw invalid(`a client of version ${theirs >> 8}.${theirs & 255} is too old`);
    const version = Math.min(theirs, NEWEST_VERSION);
    if (version >= SINCE.FEATURES) {
      await this.#from.texts();
      await this.#send(this.#to.texts([]));
    }
    // A processor that older daemons pinned themselves to, and whether to reserve space.
    if (await this.#from.flag()) await this.#from.number();
    await this.#from.flag();
    this.#to.text(DAEMON_NAME);
    if (version >= SINCE.TRUST) this.#to.number(this.#isTrusted() ? TRUST.TRUSTED : TRUST.NOT_TRUSTED);
    await this.#send(this.#to.number(REPLY.LAST));
    const { mayWrite } = this.#options;
    const mayUpload = async () => {
      mayWrite();
      await this.#hold().take(UPLOAD_MEMORY);
    };
    return { version, mayWrite, mayUpload, signal: this.#gone.signal };
  }

  #isTrusted(): boolean {
    try {
      this.#options.mayWrite();
      return true;
    } catch {
      return false;
    }
  }

  async #counted(answer: () => Promise<void>): Promise<void> {
    const { counts } = this.#options;
    const begun = counts.underWay.begin();
    this.#operation = 'none';
    this.#failure = undefined;
    try {
      await answer();
    } finally {
      counts.answered(begun, this.#operation, this.#failure);
    }
  }

  /** Answers one request. Throws when no other can be read. */
  async #answer(client: Client): Promise<void> {
    this.#begin();
    const request = await this.#read();
    try {
      this.#to.number(REPLY.LAST);
      await request.run(this.#to, client);
      if (request.contents) await request.contents.skip();
    } catch (error) {
      await this.#fail(error);
      // The next request comes behind what is left of this one.
      await request.contents?.skip();
      return;
    }
    const answer = this.#to.take();
    if (answer.length > UNCOUNTED) this.#hold().add(answer.length);
    await this.#write(answer);
    if (request.behind) for await (const part of request.behind(client.signal)) await this.#write(part);
  }

  #begin(): void {
    this.#uncounted = UNCOUNTED;
    this.#from.begin(this.#take);
  }

  /** Takes memory for what is read. */
  readonly #take = (bytes: number): Promise<void> | undefined => {
    this.#uncounted -= bytes;
    return this.#uncounted < 0 ? this.#hold().take(bytes) : undefined;
  };

  #hold(): Holding {
    this.#holding ??= this.#options.share().open((error) => this.#socket.destroy(error));
    return this.#holding;
  }

  async #read(): Promise<Request> {
    const number = await this.#from.count('the number of an operation');
    try {
      const name = NAMES.get(number);
      if (name) this.#operation = name;
      const read = name && this.#options.operations[name];
      if (!read)
        throw new StoreError(
          'UNIMPLEMENTED',
          `tvix-store does not do this: ${name ?? `operation ${number}`}`,
        );
      return await read(this.#from);
    } catch (error) {
      if (!this.#gone.signal.aborted) await this.#fail(error);
      throw error;
    }
  }

  /** Tells of an error in place of an answer. */
  async #fail(error: unknown): Promise<void> {
    this.#to.take();
    this.#failure = error instanceof StoreError ? error.code : 'INTERNAL';
    // It may repeat what the client has sent.
    const message = messageOf(error).slice(0, MAX_MESSAGE_LENGTH);
    log.debug('a request of a Nix client failed', { error: message });
    this.#to.number(REPLY.ERROR).text('Error').number(ERROR_LEVEL).text('Error').text(message);
    // No position in a file, and no trace.
    await this.#send(this.#to.number(0).number(0));
  }

  /** The next part of what the client owes us. */
  async #owed(parts: SocketParts): ReturnType<SocketParts['next']> {
    const part = await this.#inTime('send', () => parts.next());
    this.#holding?.moved(part.value?.length ?? 0);
    return part;
  }

  async #send(writer: WireWriter): Promise<void> {
    await this.#write(writer.take());
  }

  /** Resolves when the client has taken it, or there is room for more. */
  async #write(bytes: Uint8Array): Promise<void> {
    if (this.#gone.signal.aborted) throw this.#gone.signal.reason;
    this.#options.counts.sent += bytes.length;
    if (bytes.length > 0 && !this.#socket.write(bytes))
      await this.#inTime('read', () => once(this.#socket, 'drain', { signal: this.#gone.signal }));
    this.#holding?.moved(bytes.length);
  }

  /** Waits for the client, which is sent away when it stands still meanwhile. */
  async #inTime<T>(what: Awaited, work: () => Promise<T>): Promise<T> {
    this.#socket.setTimeout(SILENCE_MS);
    const holding = this.#hold();
    holding.await(what);
    this.#options.place.await('rest');
    try {
      return await work();
    } finally {
      holding.await(undefined);
      this.#options.place.await(undefined);
      this.#socket.setTimeout(0);
    }
  }
}
