import type { EventEmitter } from 'node:events';
import type {
  handleUnaryCall,
  Metadata,
  ServerReadableStream,
  ServerWritableStream,
  UntypedHandleCall,
} from '@grpc/grpc-js';
import type { Codec, Encoded, Method } from '../../proto/grpc/methods.ts';
import { CODES, invalid, messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';

/** An upload that sends nothing, or a download that takes nothing, is ended after this long, in milliseconds. */
const IDLE_MS = 60_000;

/** Bytes of answers that wait for a client to take them: of one call, and of all before each may keep but one message. */
const MAX_UNTAKEN = 1 << 20;
const MAX_UNTAKEN_OF_ALL = 128 << 20;

/** Counts calls under way, so that a flood of them is refused instead of heaped up. */
export class CallLimit {
  readonly #most: number;
  #running = 0;
  /** Bytes of answers that wait to be taken. */
  untaken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get running(): number {
    return this.#running;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#most)
      throw new StoreError('RESOURCE_EXHAUSTED', 'too many calls at once; try again');
    this.#running++;
    try {
      return await work();
    } finally {
      this.#running--;
    }
  }
}

/** A message that could not be read: said by the handler, as the client's fault that it is. */
class Unreadable {
  readonly error: StoreError;

  constructor(error: unknown) {
    this.error = invalid(`cannot read the message: ${messageOf(error)}`, { cause: error });
  }
}

/** A codec's reader for grpc-js, which would call an unreadable message an internal error. */
export function reader<T>(codec: Codec<T>): (bytes: Buffer) => T {
  return (bytes) => {
    try {
      return codec.decode(bytes);
    } catch (error) {
      return new Unreadable(error) as T;
    }
  };
}

function readable<T>(message: T): T {
  if (message instanceof Unreadable) throw message.error;
  return message;
}

/** What a service does for a method. Streams come and go as iterables. */
export type Unary<Q, R> = (request: Q, signal: AbortSignal) => Promise<R>;
export type ServerStream<Q, R> = (request: Q, signal: AbortSignal) => AsyncIterable<R>;
export type ClientStream<Q, R> = (requests: AsyncIterable<Q>, signal: AbortSignal) => Promise<R>;

/** What a call shows of who makes it. */
export interface Caller {
  readonly metadata: Metadata;
  getPeer(): string;
}
/** Throws when a caller may not make a call. */
export type Permit = (caller: Caller) => void;

/** Wraps work as a handler for grpc-js, by the method's kind. `permit` is asked before anything is read. */
export function handler<Q, R>(
  method: Method<Q, R>,
  work: Unary<Q, R> | ServerStream<Q, R> | ClientStream<Q, R>,
  limit: CallLimit,
  permit: Permit,
): UntypedHandleCall {
  if (method.requestStream) return clientStream(work as ClientStream<Q, R>, limit, permit);
  if (method.responseStream) return serverStream(method, work as ServerStream<Q, R>, limit);
  const unary: handleUnaryCall<Q, R> = (call, callback) => {
    const { signal, over } = cancellation(call);
    limit
      .run(async () => {
        permit(call);
        return (work as Unary<Q, R>)(readable(call.request), signal);
      })
      .finally(over)
      .then(
        (response) => callback(null, response),
        (error) => callback(statusOf(error)),
      );
  };
  return unary;
}

function serverStream<Q, R>(method: Method<Q, R>, work: ServerStream<Q, R>, limit: CallLimit) {
  return (call: ServerWritableStream<Q, Encoded>) => {
    const { signal } = cancellation(call);
    const outbox = new Outbox(call, limit, signal);
    const { encode, lend = encode } = method.response;
    const send = async () => {
      try {
        for await (const response of work(readable(call.request), signal)) {
          if (signal.aborted) return;
          await outbox.send(lend(response));
        }
        call.end();
        await outbox.empty();
      } finally {
        outbox.close();
      }
    };
    limit.run(send).catch((error) => call.emit('error', statusOf(error)));
  };
}

/**
 * Hands messages to grpc-js only as fast as the client takes them. Its own measure is the number of messages,
 * of which sixteen may be 8 MiB.
 */
class Outbox<Q> {
  readonly #call: ServerWritableStream<Q, Encoded>;
  readonly #limit: CallLimit;
  readonly #signal: AbortSignal;
  #untaken = 0;
  #closed = false;
  #taken: (() => void) | undefined;

  constructor(call: ServerWritableStream<Q, Encoded>, limit: CallLimit, signal: AbortSignal) {
    this.#call = call;
    this.#limit = limit;
    this.#signal = signal;
  }

  /** Resolves when the next message may come. */
  async send(message: Encoded): Promise<void> {
    const { byteLength } = message;
    this.#count(byteLength);
    this.#call.write(message, () => {
      this.#count(-byteLength);
      this.#taken?.();
    });
    const full = () =>
      this.#untaken > MAX_UNTAKEN || (this.#untaken > 0 && this.#limit.untaken > MAX_UNTAKEN_OF_ALL);
    while (full() && !this.#signal.aborted) await this.#progress();
  }

  /** Resolves when the client has taken all of it. */
  async empty(): Promise<void> {
    while (this.#untaken > 0 && !this.#signal.aborted) await this.#progress();
  }

  close(): void {
    this.#count(-this.#untaken);
    this.#closed = true;
  }

  #count(bytes: number): void {
    if (this.#closed) return;
    this.#untaken += bytes;
    this.#limit.untaken += bytes;
  }

  #progress(): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        this.#taken = undefined;
        this.#signal.removeEventListener('abort', settle);
        resolve();
      };
      const timer = setTimeout(() => {
        reject(new StoreError('DEADLINE_EXCEEDED', `nothing was taken for ${IDLE_MS / 1000} s`));
      }, IDLE_MS);
      this.#taken = settle;
      this.#signal.addEventListener('abort', settle, { once: true });
    });
  }
}

function clientStream<Q, R>(work: ClientStream<Q, R>, limit: CallLimit, permit: Permit) {
  return (call: ServerReadableStream<Q, R>, callback: (error: object | null, response?: R) => void) => {
    const { signal, over } = cancellation(call);
    limit
      .run(async () => {
        permit(call);
        return work(messages(call, signal), signal);
      })
      .finally(over)
      .then(
        (response) => callback(null, response),
        (error) => callback(statusOf(error)),
      );
  };
}

async function* messages<Q, R>(call: ServerReadableStream<Q, R>, signal: AbortSignal): AsyncGenerator<Q> {
  let idle = false;
  let ended = false;
  const timer = setTimeout(() => {
    idle = true;
    call.destroy(new Error('idle'));
  }, IDLE_MS);
  try {
    // The answer is still to come: not to be destroyed at the end, which would cost an error each time.
    for await (const message of call.iterator({ destroyOnReturn: false })) {
      timer.refresh();
      yield readable(message as Q);
    }
    ended = true;
  } catch (error) {
    if (idle) throw new StoreError('DEADLINE_EXCEEDED', `nothing was sent for ${IDLE_MS / 1000} s`);
    signal.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
    if (!ended) call.destroy();
  }
  signal.throwIfAborted();
}

/** One for all calls: making an error takes longer than answering. */
const GONE = new StoreError('CANCELLED', 'the client went away');

/** Fires when the client cancels or goes away. grpc-js says so of every call in the end: nobody listens when it is `over`. */
function cancellation(call: EventEmitter): { readonly signal: AbortSignal; readonly over: () => void } {
  const controller = new AbortController();
  const cancel = () => controller.abort(GONE);
  call.on('cancelled', cancel);
  return { signal: controller.signal, over: () => call.off('cancelled', cancel) };
}

function statusOf(error: unknown): { code: number; details: string; metadata?: Metadata } {
  if (error instanceof StoreError) {
    if (CODES[error.code].http >= 500) log.warn('a call failed', { code: error.code, error: error.message });
    return { code: CODES[error.code].grpc, details: error.message };
  }
  log.error('a call failed', { error: messageOf(error) });
  return { code: CODES.INTERNAL.grpc, details: 'internal error' };
}
