import { getDefaultHighWaterMark, setDefaultHighWaterMark } from 'node:stream';
import type { CallOptions, ChannelCredentials, Interceptor, ServiceError } from '@grpc/grpc-js';
import { Client, InterceptingCall, Metadata, status } from '@grpc/grpc-js';
import { deferred } from '../../util/async/deferred.ts';
import type { RetryOptions } from '../../util/async/retry.ts';
import { retrying } from '../../util/async/retry.ts';
import { CODES, type Code, damaged, StoreError } from '../../util/errors.ts';
import type { Dialect, Method } from './methods.ts';
import { DIALECTS, methodPath, TRANSPORT_OPTIONS } from './methods.ts';

/** A call without an answer, or a stream without a message, is given up after this long, in milliseconds. */
const IDLE_MS = 60_000;
/** For what can be repeated. */
const RETRIES: RetryOptions = {
  attempts: 7,
  firstWaitMs: 50,
  isTransient: (error) => error instanceof StoreError && error.code === 'UNAVAILABLE',
};

/** Messages of a stream of answers that wait for whoever reads them. */
const MESSAGES_HELD = 2;

const CHANNEL_OPTIONS = {
  ...TRANSPORT_OPTIONS,
  // This much may still arrive of an answer that nobody reads on; 8 MiB was no faster between two processes.
  'grpc-node.flow_control_window': 4 << 20,
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 2000,
};

/** Finds out whether a peer knows a service under a dialect: throws UNIMPLEMENTED when it does not. */
export type Probe = (dialect: Dialect) => Promise<unknown>;

export interface ChannelOptions {
  /** Found out for each service unless it is given. */
  readonly dialect?: Dialect | undefined;
  /** Shown with every call, to be let in. */
  readonly token?: string | undefined;
}

/** A connection to a peer, shared by the services at one address. Errors name the peer. */
export class Channel {
  /** The peer, as a person wrote it. */
  readonly address: string;
  readonly #client: Client;
  readonly #fixed: Dialect | undefined;
  readonly #dialects = new Map<string, Promise<Dialect>>();
  /** Streams under way: one that its user left would keep the connection, and the process, for a while. */
  readonly #streams = new Set<{ cancel(): void }>();

  /** `target` is what grpc-js dials. */
  constructor(
    address: string,
    target: string,
    credentials: ChannelCredentials,
    options: ChannelOptions = {},
  ) {
    this.address = address;
    const interceptors = options.token === undefined ? [] : [showing(options.token)];
    this.#client = new Client(target, credentials, { ...CHANNEL_OPTIONS, interceptors });
    this.#fixed = options.dialect;
  }

  /** Resolves when there is a connection. Throws UNAVAILABLE after `milliseconds`. */
  async connect(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#client.waitForReady(Date.now() + milliseconds, (error) => {
        if (error)
          reject(new StoreError('UNAVAILABLE', `cannot connect to ${this.address}: ${error.message}`));
        else resolve();
      });
    });
  }

  /** A call with one answer. It is repeated while the peer cannot be reached: only for what may be repeated. */
  unary<Q, R>(method: Method<Q, R>, request: Q, signal?: AbortSignal): Promise<R> {
    return this.#retry(signal, async () =>
      this.unaryAs(await this.#dialect(method), method, request, signal),
    );
  }

  unaryAs<Q, R>(dialect: Dialect, method: Method<Q, R>, request: Q, signal?: AbortSignal): Promise<R> {
    return new Promise((resolve, reject) => {
      const call = untraced(() =>
        this.#client.makeUnaryRequest(
          methodPath(dialect, method),
          method.request.encode,
          method.response.decode,
          request,
          new Metadata(),
          deadline(),
          (error, response) => {
            signal?.removeEventListener('abort', cancel);
            if (error) reject(this.#failure(error, signal));
            else resolve(response!);
          },
        ),
      );
      const cancel = () => call.cancel();
      signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  /** A stream of answers. It is begun again while the peer cannot be reached and nothing has come. */
  async *serverStream<Q, R>(method: Method<Q, R>, request: Q, signal?: AbortSignal): AsyncGenerator<R> {
    const begun = await this.#retry(signal, async () => {
      const messages = this.serverStreamAs(await this.#dialect(method), method, request, signal);
      return { messages, first: await messages.next() };
    });
    try {
      if (begun.first.done) return;
      yield begun.first.value;
      yield* begun.messages;
    } finally {
      await begun.messages.return(undefined);
    }
  }

  async *serverStreamAs<Q, R>(
    dialect: Dialect,
    method: Method<Q, R>,
    request: Q,
    signal?: AbortSignal,
  ): AsyncGenerator<R> {
    signal?.throwIfAborted();
    const call = holdingFew(() =>
      this.#client.makeServerStreamRequest(
        methodPath(dialect, method),
        method.request.encode,
        method.response.decode,
        request,
      ),
    );
    const cancel = () => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    this.#streams.add(call);
    let idle = false;
    const timer = setTimeout(() => {
      idle = true;
      call.cancel();
    }, IDLE_MS).unref();
    try {
      for await (const message of call) {
        timer.refresh();
        yield message as R;
      }
    } catch (error) {
      if (idle)
        throw new StoreError('DEADLINE_EXCEEDED', `${this.address}: nothing arrived for ${IDLE_MS / 1000} s`);
      throw this.#failure(error as ServiceError, signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      this.#streams.delete(call);
      call.cancel();
    }
  }

  /**
   * All of a stream of answers that is known to be short: costs a fraction of iterating over it. Throws
   * DATA_LOSS for one that exceeds `most` bytes.
   */
  async wholeStream<Q, R>(
    method: Method<Q, R>,
    request: Q,
    most: number,
    signal?: AbortSignal,
  ): Promise<R[]> {
    return this.#retry(signal, async () => {
      const dialect = await this.#dialect(method);
      signal?.throwIfAborted();
      return new Promise<R[]>((resolve, reject) => {
        let received = 0;
        const call = untraced(() =>
          this.#client.makeServerStreamRequest(
            methodPath(dialect, method),
            method.request.encode,
            (bytes: Buffer) => {
              received += bytes.length;
              if (received > most) {
                reject(damaged(`${this.address} sent more than was asked for`));
                call.cancel();
              }
              return method.response.decode(bytes);
            },
            request,
            new Metadata(),
            deadline(),
          ),
        );
        const cancel = () => call.cancel();
        signal?.addEventListener('abort', cancel, { once: true });
        const messages: R[] = [];
        call.on('data', (message: R) => messages.push(message));
        call.on('error', (error: ServiceError) => {
          signal?.removeEventListener('abort', cancel);
          reject(this.#failure(error, signal));
        });
        call.on('end', () => {
          signal?.removeEventListener('abort', cancel);
          resolve(messages);
        });
      });
    });
  }

  /** Sends a stream and gives the answer. Not repeated: the stream is gone. */
  async clientStream<Q, R>(
    method: Method<Q, R>,
    requests: AsyncIterable<Q> | Iterable<Q>,
    signal?: AbortSignal,
  ): Promise<R> {
    const dialect = await this.#retry(signal, () => this.#dialect(method));
    signal?.throwIfAborted();
    const answer = deferred<R>();
    const call = this.#client.makeClientStreamRequest(
      methodPath(dialect, method),
      (encoded: Buffer) => encoded,
      method.response.decode,
      (error, response) => {
        if (error) answer.reject(this.#failure(error, signal));
        else answer.resolve(response!);
      },
    );
    // The peer may answer before all is sent, by refusing it.
    let answered = false;
    answer.promise
      .catch(() => {})
      .finally(() => {
        answered = true;
      });
    const cancel = () => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    this.#streams.add(call);
    const timer = setTimeout(cancel, IDLE_MS).unref();
    try {
      for await (const request of requests) {
        if (answered) break;
        timer.refresh();
        // Encoded at once: grpc-js would do so later, when the sender may have changed what it lent.
        if (!call.write(method.request.encode(request))) {
          await Promise.race([new Promise((resolve) => call.once('drain', resolve)), answer.promise]);
        }
      }
      call.end();
      timer.refresh();
      return await answer.promise;
    } catch (error) {
      call.cancel();
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      this.#streams.delete(call);
    }
  }

  /** Has a service's dialect found out by a harmless call, once. */
  detect(service: string, probe: Probe): void {
    this.#probes.set(service, probe);
  }

  readonly #probes = new Map<string, Probe>();

  async #dialect({ service }: { readonly service: string }): Promise<Dialect> {
    if (this.#fixed) return this.#fixed;
    let dialect = this.#dialects.get(service);
    if (!dialect) {
      dialect = this.#findDialect(service);
      this.#dialects.set(service, dialect);
      dialect.catch(() => this.#dialects.delete(service));
    }
    return dialect;
  }

  async #findDialect(service: string): Promise<Dialect> {
    const probe = this.#probes.get(service);
    if (!probe) return DIALECTS[0];
    for (const dialect of DIALECTS) {
      try {
        await probe(dialect);
        return dialect;
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        if (error.code === 'DEADLINE_EXCEEDED') throw error;
        if (error.code === 'UNAVAILABLE') {
          // It may be there, and what is behind it not: the call itself will tell, and the next one looks again.
          this.#dialects.delete(service);
          return dialect;
        }
        if (error.code !== 'UNIMPLEMENTED') return dialect;
      }
    }
    throw new StoreError('UNIMPLEMENTED', `${this.address} does not offer the ${service}`);
  }

  #retry<T>(signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
    return retrying(RETRIES, signal, attempt);
  }

  #failure(error: ServiceError, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return signal.reason;
    const details = error.details || error.message;
    // grpc-js says so when the connection breaks under a call.
    const broken = error.code === status.INTERNAL && details.startsWith('Received RST_STREAM with code 2');
    return new StoreError(broken ? 'UNAVAILABLE' : codeOf(error.code), `${this.address}: ${details}`, {
      cause: error,
    });
  }

  close(): void {
    for (const call of this.#streams) call.cancel();
    this.#client.close();
  }
}

/** Has a stream of messages made that holds few of them: 16, as others do, may be 8 MiB of a blob. */
function holdingFew<T>(begin: () => T): T {
  const before = getDefaultHighWaterMark(true);
  setDefaultHighWaterMark(true, MESSAGES_HELD);
  try {
    return begin();
  } finally {
    setDefaultHighWaterMark(true, before);
  }
}

/** grpc-js takes a stack trace for every call, lest it fails: a twentieth of what a short one takes. */
function untraced<T>(begin: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return begin();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

function deadline(): CallOptions {
  return { deadline: Date.now() + IDLE_MS };
}

/** Our code for a gRPC status; what has none of its own is INTERNAL. */
function codeOf(grpc: number | undefined): Code {
  if (grpc === status.RESOURCE_EXHAUSTED) return 'RESOURCE_EXHAUSTED';
  const found = Object.entries(CODES).find(([, { grpc: number }]) => number === grpc);
  return (found?.[0] as Code | undefined) ?? 'INTERNAL';
}

/** Shows a token with every call. */
function showing(token: string): Interceptor {
  return (options, next) =>
    new InterceptingCall(next(options), {
      start(metadata, listener, start) {
        metadata.set('authorization', `Bearer ${token}`);
        start(metadata, listener);
      },
    });
}
