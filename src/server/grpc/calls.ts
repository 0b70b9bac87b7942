import type { Codec } from '../../proto/grpc/codec.ts';
import type { MethodShape } from '../../proto/grpc/methods.ts';
import { invalid, messageOf } from '../../util/errors.ts';
import type { Grant } from '../access/rule.ts';
import type { FairTurns } from '../shares/fair-turns.ts';
import type { Holding } from '../shares/holding.ts';
import type { Call } from './call.ts';
import type { Caller } from './http2-server.ts';
import { lengthOf, SharedAnswer } from './shared-answer.ts';

/** What the next answer of a stream may take, in bytes, before it is known. */
const NEXT_ANSWER = 512 << 10;

/** What else a call comes with. */
export interface Context {
  /** What it takes of its client's share. */
  readonly holding: Holding;
  /** Which store paths it is for. */
  readonly grant: Grant;
}

/** Implementations of a method, by its shape. Streams come and go as iterables. */
export type Unary<Q, R> = (request: Q, signal: AbortSignal, context: Context) => Promise<R | SharedAnswer>;
export type ServerStream<Q, R> = (request: Q, signal: AbortSignal, context: Context) => AsyncIterable<R>;
export type ClientStream<Q, R> = (
  requests: AsyncIterable<Q>,
  signal: AbortSignal,
  context: Context,
) => Promise<R>;
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

/** Gives what a call is for. Throws when the caller may not make it. */
export type Permit = (caller: Caller) => Grant;

/** Answers a call by a method. Never throws. */
export async function answer(
  call: Call,
  { shape, work }: ServedMethod,
  permit: Permit,
  turns: FairTurns,
): Promise<void> {
  try {
    const context: Context = { holding: call.holding, grant: permit(call.caller) };
    const { signal } = call;
    const requests = decoded(call, shape.request);
    const request = shape.requestStream ? requests : await only(requests);
    const turn = turns.take(call.holding.share);
    if (turn) await turn;
    signal.throwIfAborted();
    if (shape.responseStream) {
      const answers = (work as ServerStream<unknown, unknown>)(request, signal, context);
      await sendAll(call, shape, answers, turns);
    } else {
      const response = await (work as Unary<unknown, unknown>)(request, signal, context);
      if (response instanceof SharedAnswer) return await response.send(call);
      const parts = partsOf(shape.response, response);
      call.holding.add(lengthOf(parts));
      await call.send(parts);
    }
    await call.end();
  } catch (error) {
    call.fail(error);
  }
}

/** Makes each answer when the client has taken those before, there is memory for it, and it is the client's turn. */
async function sendAll(
  call: Call,
  { requestStream, response }: ServedMethod['shape'],
  answers: AsyncIterable<unknown>,
  turns: FairTurns,
): Promise<void> {
  const { holding, signal } = call;
  const each = answers[Symbol.asyncIterator]();
  try {
    // The first turn has been had.
    for (let isFirst = true; ; isFirst = false) {
      // Of a dialogue, the next may be long in coming.
      const room = requestStream ? 0 : NEXT_ANSWER;
      const taken = room > 0 ? holding.take(room) : undefined;
      if (taken) await taken;
      const turn = isFirst ? undefined : turns.take(holding.share);
      if (turn) await turn;
      signal.throwIfAborted();
      const next = await each.next();
      if (next.done) return;
      const parts = partsOf(response, next.value);
      holding.add(lengthOf(parts) - room);
      await call.send(parts);
    }
  } finally {
    await each.return?.();
  }
}

function partsOf<T>({ encode, lend }: Codec<T>, message: T): readonly Uint8Array[] {
  return lend ? lend(message).parts : [encode(message)];
}

async function* decoded<T>(call: Call, { decode }: Codec<T>): AsyncGenerator<T> {
  for await (const bytes of call.messages()) {
    let message: T;
    try {
      message = decode(bytes);
    } catch (error) {
      throw invalid(`cannot read the message: ${messageOf(error)}`, { cause: error });
    }
    call.received += bytes.length;
    yield message;
  }
}

/** The one message of a request. It stays in memory until the call ends. */
async function only<T>(requests: AsyncGenerator<T>): Promise<T> {
  const { value, done } = await requests.next();
  // The call sends nothing any more, which leaves the others of its connection more to send ahead.
  await requests.return(undefined);
  if (done) throw invalid('the request has no message');
  return value;
}
