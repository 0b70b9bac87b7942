import { once } from 'node:events';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { orAborted } from '../../util/async/abort.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import type { Caller, Grant } from '../access/rule.ts';
import type { FairTurns } from '../shares/fair-turns.ts';
import type { Holding, Share } from '../shares/holding.ts';
import type { HttpProblem } from './problem.ts';
import { problemOf } from './problem.ts';
import { parseRange } from './range.ts';

/** A client that sends nothing of a body, or takes nothing of one, is left after this long, in milliseconds. */
const IDLE_MS = 60_000;

/** What a part of an answer may take, in bytes, before it is made. */
const PART = 1 << 20;

/** A body that can be sent as a whole or in part. */
export interface Body {
  /** Bytes. */
  readonly length: number;
  /** The bytes from `start` up to `end`. */
  read(start: number, end: number, signal: AbortSignal | undefined): AsyncIterable<Uint8Array>;
  /** Called before a part is sent: throws when the length is not as it was said to be. */
  check?(signal: AbortSignal): Promise<void>;
}

/** A request, and what is answered. */
export class Exchange {
  readonly path: string;
  readonly query: URLSearchParams;
  /** Fires when the client is gone. */
  readonly signal: AbortSignal;
  /** Who asks. */
  readonly caller: Caller;
  /** What they may do, once that has been looked at. */
  grant: Grant | undefined;
  /** What the request takes of its client's share. */
  readonly holding: Holding;
  /** Bytes of the bodies that were sent and received. */
  sent = 0;
  received = 0;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #turns: FairTurns;
  /** Whether the client waits to be told to send its body. */
  #awaitsContinue: boolean;

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    about: {
      signal: AbortSignal;
      caller: Caller;
      awaitsContinue: boolean;
      share: Share;
      turns: FairTurns;
    },
  ) {
    this.#request = request;
    this.#response = response;
    this.#awaitsContinue = about.awaitsContinue;
    this.signal = about.signal;
    this.caller = about.caller;
    this.#turns = about.turns;
    this.holding = about.share.open((error) => {
      this.fail(problemOf(error));
      request.socket.destroySoon();
    });
    response.once('close', () => this.holding.close());
    const [, path = '', query] =
      /^(?:https?:\/\/[^/?]*)?([^?#]*)(?:\?([^#]*))?/i.exec(request.url ?? '') ?? [];
    this.path = path || '/';
    this.query = new URLSearchParams(query ?? '');
  }

  get method(): string {
    return this.#request.method ?? '';
  }

  get status(): number {
    return this.#response.statusCode;
  }

  header(name: string): string | undefined {
    const value = this.#request.headers[name];
    return Array.isArray(value) ? value.join(', ') : value;
  }

  /** The body of the request, as it comes. */
  async *body(): AsyncGenerator<Uint8Array> {
    if (this.#awaitsContinue) this.#response.writeContinue();
    this.#awaitsContinue = false;
    const { socket } = this.#request;
    // Not by a loop: that would destroy the connection of an upload that is refused.
    const parts = this.#request[Symbol.asyncIterator]();
    try {
      for (;;) {
        // Its end destroys the connection.
        socket.setTimeout(IDLE_MS);
        this.holding.await('send');
        const { value, done } = await parts.next();
        this.holding.await(undefined);
        socket.setTimeout(0);
        if (done) return;
        this.holding.moved(value.length);
        this.received += value.length;
        yield value;
      }
    } catch (error) {
      throw new StoreError('CANCELLED', 'the upload was cut short', { cause: error });
    } finally {
      socket.setTimeout(0);
    }
  }

  /** Answers with a text. */
  reply(status: number, type: string, text: string | Uint8Array, headers: OutgoingHttpHeaders = {}): void {
    const length = Buffer.byteLength(text);
    this.#begin(status, { 'content-type': type, 'content-length': length, ...headers });
    this.sent = this.method === 'HEAD' ? 0 : length;
    this.#end(text);
  }

  /** Answers with what is wrong; cuts the connection when an answer has begun already. */
  fail({ status, message, headers }: HttpProblem): void {
    if (this.#response.headersSent) this.#response.destroy();
    else
      this.reply(status, 'text/plain; charset=utf-8', `${message}\n`, {
        'cache-control': 'no-store',
        ...headers,
      });
  }

  /** Answers with a body, or with the range of it that is asked for. */
  async send(body: Body, headers: OutgoingHttpHeaders): Promise<void> {
    const { length } = body;
    // Nobody gets a validator from us that could stand in If-Range.
    const range =
      this.header('if-range') === undefined ? parseRange(this.header('range'), length) : undefined;
    const all = { 'accept-ranges': 'bytes', ...headers };
    if (range) await body.check?.(this.signal);
    if (range === 'unsatisfiable') {
      this.#begin(416, { 'content-range': `bytes */${length}`, 'content-length': 0 });
      this.#end();
      return;
    }
    const { start, end } = range ?? { start: 0, end: length };
    const part = range ? { 'content-range': `bytes ${start}-${end - 1}/${length}` } : {};
    await this.stream(range ? 206 : 200, { ...all, ...part, 'content-length': end - start }, () =>
      body.read(start, end, this.signal),
    );
  }

  /** Answers with a body that is made as the client takes it, each part before the next is made; what `headers` say of its length must hold. */
  async stream(
    status: number,
    headers: OutgoingHttpHeaders,
    make: () => AsyncIterable<Uint8Array | string>,
  ): Promise<void> {
    if (this.method === 'HEAD') {
      this.#begin(status, headers);
      this.#end();
      return;
    }
    await this.#turn();
    const length = headers['content-length'] as number | undefined;
    const parts = make()[Symbol.asyncIterator]();
    const nextPart = async () => {
      await this.holding.take(PART);
      await this.#turns.take(this.holding.share);
      this.signal.throwIfAborted();
      return parts.next();
    };
    try {
      // What fails at once can still be said.
      let next = await nextPart();
      this.#begin(status, headers);
      for (; !next.done; next = await nextPart()) {
        this.sent += next.value.length;
        if (length !== undefined && this.sent > length) throw damaged('an answer is longer than was said');
        await this.#write(next.value);
        this.holding.give(PART);
      }
      if (length !== undefined && this.sent < length) throw damaged('an answer is shorter than was said');
      this.#end();
    } finally {
      await parts.return?.();
    }
  }

  /** Of requests that a client sends without waiting for answers, later ones cost nothing until their turn. */
  async #turn(): Promise<void> {
    if (!this.#response.socket) await orAborted(once(this.#response, 'socket'), this.signal);
  }

  /** Resolves when the system has taken all of it: its memory may then be used again. */
  async #write(part: Uint8Array | string): Promise<void> {
    let taken = () => {};
    this.#response.write(part, () => taken());
    if (this.#response.writableLength === 0) return;
    const socket: Socket | null = this.#response.socket;
    socket?.setTimeout(IDLE_MS);
    this.holding.await('read');
    await orAborted(new Promise<void>((resolve) => (taken = resolve)), this.signal);
    this.holding.await(undefined);
    this.holding.moved(part.length);
    socket?.setTimeout(0);
  }

  #end(text?: string | Uint8Array): void {
    this.#response.socket?.setTimeout(IDLE_MS);
    this.#response.end(text);
  }

  #begin(status: number, headers: OutgoingHttpHeaders): void {
    // A body that was not asked for is not coming: the connection is of no more use.
    if (this.#awaitsContinue) this.#response.setHeader('connection', 'close');
    this.#response.writeHead(status, headers);
  }
}
