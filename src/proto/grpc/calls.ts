import { getDefaultHighWaterMark, setDefaultHighWaterMark } from 'node:stream';
import type { CallOptions, Interceptor } from '@grpc/grpc-js';
import { InterceptingCall } from '@grpc/grpc-js';
import type { Call, Connection } from './connection.ts';

/** A call without an answer, or a stream without a message, is given up after this long, in milliseconds. */
export const IDLE_MS = 60_000;
/** Messages of a stream of answers that wait for whoever reads them. */
const MESSAGES_HELD = 2;

/**
 * Notes a call that is under way, and cancels it when the signal fires, until the function that this gives is called.
 * `sends`: it may send much before it is answered.
 */
export function follow(
  connection: Connection,
  call: Call,
  signal: AbortSignal | undefined,
  sends = false,
): () => void {
  const cancel = () => call.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  connection.begin(call, sends);
  return () => {
    signal?.removeEventListener('abort', cancel);
    connection.end(call);
  };
}

/** Has a stream of messages made that holds few of them: 16, as others do, may be 8 MiB of a blob. */
export function holdingFew<T>(begin: () => T): T {
  const before = getDefaultHighWaterMark(true);
  setDefaultHighWaterMark(true, MESSAGES_HELD);
  try {
    return begin();
  } finally {
    setDefaultHighWaterMark(true, before);
  }
}

/** grpc-js takes a stack trace of every call in case it fails: a twentieth of the time of a short one. */
export function untraced<T>(begin: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return begin();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

export function deadline(): CallOptions {
  return { deadline: Date.now() + IDLE_MS };
}

/** Shows a token with every call. */
export function showing(token: () => string): Interceptor {
  return (options, next) =>
    new InterceptingCall(next(options), {
      start(metadata, listener, start) {
        metadata.set('authorization', `Bearer ${token()}`);
        start(metadata, listener);
      },
    });
}
