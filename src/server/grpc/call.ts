import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { constants } from 'node:http2';
import type { Code } from '../../util/errors.ts';
import { CODES, messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Budget } from '../shares/budget.ts';
import type { Holding } from '../shares/holding.ts';
import type { Caller } from './http2-server.ts';
import { ENCODINGS, Inbox } from './inbox.ts';
import { Outbox } from './outbox.ts';

/** What a call takes before anything of it is read, in bytes: a stream of Node's, and what is around it. */
const CALL_COST = 16 << 10;
/** A client that goes on sending what nobody wants any more is cut off after this long, in milliseconds. */
const LINGER_MS = 5000;
const HEAD_LENGTH = 5;

const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** One for all calls: making an error takes longer than answering. */
const GONE = new StoreError('CANCELLED', 'the client went away');

const RESPONSE_HEADERS: OutgoingHttpHeaders = {
  ':status': 200,
  'content-type': 'application/grpc+proto',
  'grpc-accept-encoding': Object.keys(ENCODINGS).join(),
};

/** A call as gRPC has it on HTTP/2: messages each way, and a status at the end. */
export class Call {
  readonly caller: Caller;
  readonly holding: Holding;
  /** Fires when the client has gone or is cut off, and at its deadline. */
  readonly signal: AbortSignal;
  readonly #stream: ServerHttp2Stream;
  readonly #abort = new AbortController();
  readonly #timer: NodeJS.Timeout | undefined;
  #outbox: Outbox | undefined;
  #isOver = false;
  /** Bytes of messages, without what they are packed in. */
  sent = 0;
  received = 0;
  /** The name of its failure, if it has failed. */
  failure: string | undefined;

  constructor(stream: ServerHttp2Stream, caller: Caller, budget: Budget) {
    this.#stream = stream;
    this.caller = caller;
    this.signal = this.#abort.signal;
    this.holding = budget.share(caller.peer).open((error) => this.#cut(error));
    stream.once('close', () => {
      this.#over();
      this.#abort.abort(GONE);
    });
    const ms = timeoutIn(caller.headers['grpc-timeout']);
    if (ms !== undefined && ms <= LONGEST_TIMER_MS) {
      const late = () => this.fail(new StoreError('DEADLINE_EXCEEDED', 'the deadline of the call is over'));
      this.#timer = setTimeout(late, ms).unref();
    }
    this.holding.arrive(CALL_COST + sizeOf(caller.headers));
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** The messages that the client sends, decoded. */
  messages(): AsyncGenerator<Buffer> {
    const encoding = String(this.caller.headers['grpc-encoding'] ?? 'identity');
    if (!Object.hasOwn(ENCODINGS, encoding)) {
      throw new StoreError('UNIMPLEMENTED', `compression by ${encoding} is not known here`);
    }
    const { holding, signal } = this;
    return new Inbox(this.#stream, { holding, signal, encoding, window: this.caller.window }).messages();
  }

  /** Sends a message; its parts must not change until they have been sent. Resolves when the next may come. */
  async send(parts: readonly Uint8Array[], isHeld = true): Promise<void> {
    if (this.#isOver) throw this.signal.reason ?? GONE;
    if (!this.#outbox) {
      this.#stream.respond(RESPONSE_HEADERS, { waitForTrailers: true });
      this.#outbox = new Outbox(this.#stream, this.holding, this.signal);
    }
    const head = Buffer.alloc(HEAD_LENGTH);
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    head.writeUInt32BE(length, 1);
    this.sent += length;
    const [first = new Uint8Array(), ...others] = parts;
    // A write of its own takes as long as a small message does.
    const isSmall = first.length <= SMALL;
    await this.#outbox.send(isSmall ? [Buffer.concat([head, first]), ...others] : [head, ...parts], isHeld);
  }

  /** Ends it well, when the client has taken everything. */
  async end(): Promise<void> {
    if (!this.#outbox) return this.#finish({ 'grpc-status': 0 });
    await this.#outbox.empty();
    if (!this.#isOver) this.#finish({ 'grpc-status': 0 });
  }

  /** Ends it with a failure, unless it has ended. */
  fail(error: unknown): void {
    if (this.#isOver) return;
    const { code, name, details } = statusOf(error);
    this.failure = name;
    this.#finish({ 'grpc-status': code, 'grpc-message': encodeURI(details.toWellFormed()) });
    this.#abort.abort(error);
  }

  /** As to memory, it has ended already: what is unread of it, or still coming, is given up. */
  #cut(error: StoreError): void {
    const isUnread = this.#outbox && this.#stream.writableLength > 0;
    this.fail(error);
    if (isUnread || error.code === 'RESOURCE_EXHAUSTED')
      this.#stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }

  #finish(trailers: OutgoingHttpHeaders): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) {
      this.#over();
      return;
    }
    if (!this.#outbox) {
      this.#over();
      stream.respond({ ...RESPONSE_HEADERS, ...trailers }, { endStream: true });
    } else {
      stream.once('wantTrailers', () => {
        this.#over();
        stream.sendTrailers(trailers);
      });
      // What it has not taken yet is still held.
      this.holding.await('read');
      stream.end();
    }
    this.#linger();
  }

  /** Takes what the client still sends, for a while. */
  #linger(): void {
    const stream = this.#stream;
    stream.removeAllListeners('readable');
    stream.resume();
    let timer: NodeJS.Timeout | undefined;
    const close = () => stream.close(constants.NGHTTP2_NO_ERROR);
    stream.once('finish', () => {
      timer = setTimeout(close, LINGER_MS).unref();
    });
    stream.once('close', () => clearTimeout(timer));
  }

  #over(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.holding.close();
  }
}

const SMALL = 4096;

/** What headers take in memory, about. */
function sizeOf(headers: Caller['headers']): number {
  let size = 0;
  for (const name in headers) size += name.length + String(headers[name]).length;
  return size;
}

/** Milliseconds in a `grpc-timeout` header; `undefined` for what is none. */
function timeoutIn(header: string | string[] | undefined): number | undefined {
  const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(String(header ?? '')) ?? [];
  return digits === undefined ? undefined : Number(digits) * UNITS[unit!]!;
}

/** How a failure is told to a client; what is ours is logged. */
export function statusOf(error: unknown): { code: number; name: Code; details: string } {
  if (error instanceof StoreError) {
    // Whoever asks for what there is not is no concern of ours.
    const isOurs = CODES[error.code].http >= 500 && error.code !== 'UNIMPLEMENTED';
    if (isOurs) log.warn('a call failed', { code: error.code, error: error.message });
    return { code: CODES[error.code].grpc, name: error.code, details: error.message };
  }
  log.error('a call failed', { error: messageOf(error) });
  return { code: CODES.INTERNAL.grpc, name: 'INTERNAL', details: 'internal error' };
}
