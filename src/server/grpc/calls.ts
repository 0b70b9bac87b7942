import type { EventEmitter } from 'node:events';
import type {
  handleUnaryCall,
  Metadata,
  ServerDuplexStream,
  ServerReadableStream,
  ServerWritableStream,
  UntypedHandleCall,
} from '@grpc/grpc-js';
import type { Codec, Encoded } from '../../proto/grpc/codec.ts';
import type { MethodShape } from '../../proto/grpc/methods.ts';
import { CODES, invalid, messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { CallLimit } from './call-limit.ts';
import { Outbox } from './outbox.ts';

/** An upload that sends nothing is ended after this long, in milliseconds. */
const IDLE_MS = 60_000;

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

/** Implementations of a method, by its shape. Streams come and go as iterables. */
export type Unary<Q, R> = (request: Q, signal: AbortSignal) => Promise<R>;
export type ServerStream<Q, R> = (request: Q, signal: AbortSignal) => AsyncIterable<R>;
export type ClientStream<Q, R> = (requests: AsyncIterable<Q>, signal: AbortSignal) => Promise<R>;
export type Dialogue<Q, R> = (requests: AsyncIterable<Q>, signal: AbortSignal) => AsyncIterable<R>;

export type Work<Q, R> = Unary<Q, R> | ServerStream<Q, R> | ClientStream<Q, R> | Dialogue<Q, R>;

/** A method under the path by which clients call it, and the work that answers it. */
export interface ServedMethod<Q = unknown, R = unknown> {
  readonly path: string;
  readonly shape: MethodShape<Q, R>;
  readonly work: Work<Q, R>;
}

/** Any method: its messages are known only to its own codecs and work. */
export function served<Q, R>(method: ServedMethod<Q, R>): ServedMethod {
  return method as unknown as ServedMethod;
}

/** The part of a call that tells who makes it. */
export interface Caller {
  readonly metadata: Metadata;
}
/** Throws when a caller may not make a call. */
export type Permit = (caller: Caller) => void;

/** Wraps work as a handler for grpc-js, by the method's kind. `permit` is asked before anything is read. */
export function handler<Q, R>(
  shape: MethodShape<Q, R>,
  work: Work<Q, R>,
  limit: CallLimit,
  permit: Permit,
): UntypedHandleCall {
  const { requestStream, responseStream } = shape;
  if (requestStream && responseStream) return dialogue(shape, work as Dialogue<Q, R>, limit);
  if (requestStream) return clientStream(work as ClientStream<Q, R>, limit, permit);
  if (responseStream) return serverStream(shape, work as ServerStream<Q, R>, limit);
  return unary(work as Unary<Q, R>, limit, permit);
}

function unary<Q, R>(work: Unary<Q, R>, limit: CallLimit, permit: Permit): handleUnaryCall<Q, R> {
  return (call, callback) => {
    const { signal, over } = cancellation(call);
    limit
      .run(async () => {
        permit(call);
        return work(readable(call.request), signal);
      })
      .finally(over)
      .then(
        (response) => callback(null, response),
        (error) => callback(statusOf(error)),
      );
  };
}

function serverStream<Q, R>(shape: MethodShape<Q, R>, work: ServerStream<Q, R>, limit: CallLimit) {
  return (call: ServerWritableStream<Q, Encoded>) =>
    answerAll(call, shape, limit, (signal) => work(readable(call.request), signal));
}

function dialogue<Q, R>(shape: MethodShape<Q, R>, work: Dialogue<Q, R>, limit: CallLimit) {
  return (call: ServerDuplexStream<Q, Encoded>) =>
    answerAll(call, shape, limit, (signal) => work(messages(call, signal), signal));
}

/** Sends a stream of answers as the client takes them, and the status at the end. */
function answerAll<Q, R>(
  call: ServerWritableStream<Q, Encoded> | ServerDuplexStream<Q, Encoded>,
  { response: { encode, lend = encode } }: MethodShape<Q, R>,
  limit: CallLimit,
  responses: (signal: AbortSignal) => AsyncIterable<R>,
): void {
  const { signal } = cancellation(call);
  const outbox = new Outbox(call, limit, signal);
  const send = async () => {
    try {
      for await (const response of responses(signal)) {
        if (signal.aborted) return;
        await outbox.send(lend(response));
      }
      call.end();
      await outbox.empty();
    } finally {
      outbox.close();
    }
  };
  limit.run(send).catch((error) => {
    if (!signal.aborted) call.emit('error', statusOf(error));
  });
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

async function* messages<Q>(
  call: ServerReadableStream<Q, never> | ServerDuplexStream<Q, Encoded>,
  signal: AbortSignal,
): AsyncGenerator<Q> {
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
