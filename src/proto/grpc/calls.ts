import { getDefaultHighWaterMark, setDefaultHighWaterMark } from 'node:stream';
import type { Interceptor } from '@grpc/grpc-js';
import { InterceptingCall } from '@grpc/grpc-js';
import type { CallWatch } from './call-watch.ts';
import type { Call, Connection } from './connection.ts';

/** A call for which not a byte arrives or can be sent, nor a sign of life, is given up after this long, in milliseconds. */
export const IDLE_MS = 60_000;
/** Messages of a stream of answers that wait for whoever reads them. */
const MESSAGES_HELD = 2;

/** A call that has begun. */
interface Begun {
  readonly connection: Connection;
  readonly call: Call;
  readonly watch?: CallWatch;
  readonly signal: AbortSignal | undefined;
  /** Whether it may send much before it is answered. */
  readonly sends?: boolean;
}

/** Notes a call that is under way, and cancels it when the signal fires, until the function that this gives is called. */
export function follow({ connection, call, watch, signal, sends = false }: Begun): () => void {
  const cancel = () => call.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  connection.begin(call, sends);
  return () => {
    watch?.end();
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
