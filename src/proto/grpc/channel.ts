import { getDefaultHighWaterMark, setDefaultHighWaterMark } from 'node:stream';
import type { ChannelCredentials, Interceptor, ServiceError } from '@grpc/grpc-js';
import { Client, InterceptingCall } from '@grpc/grpc-js';
import { orAborted } from '../../util/async/abort.ts';
import { FaultDomain } from '../../util/async/fault-domain.ts';
import type { RetryOptions } from '../../util/async/retry.ts';
import { retrying } from '../../util/async/retry.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import { CallWatch } from './call-watch.ts';
import type { Probe } from './dialect-finder.ts';
import { DialectFinder } from './dialect-finder.ts';
import { failureOf } from './failure.ts';
import type { Dialect, Method } from './methods.ts';
import { methodPath, TRANSPORT_OPTIONS } from './methods.ts';
import { reach } from './reach.ts';

/** A call for which not a byte arrives, or can be sent, is given up after this long, in milliseconds. */
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
  // A connection belongs to one channel: another one is not to inherit what broke.
  'grpc.use_local_subchannel_pool': 1,
};

export interface ChannelOptions {
  /** Found out for each service unless it is given. */
  readonly dialect?: Dialect | undefined;
  /** Shown with every call, to be let in. */
  readonly token?: string | undefined;
  /** Until a connection has been made, this is how long to wait for one, in milliseconds, and it is tried once. */
  readonly firstAnswerMs?: number | undefined;
  /** The name that a TLS handshake asks for in place of the host's. */
  readonly tlsName?: string | undefined;
}

/** A connection to a peer, shared by the services at one address. Errors name the peer. */
export class Channel {
  /** The peer, as a person wrote it. */
  readonly address: string;
  readonly #domain: FaultDomain;
  #client: Client;
  readonly #fixed: Dialect | undefined;
  readonly #firstAnswerMs: number | undefined;
  #reached: Promise<boolean> | undefined;
  readonly #dialects: DialectFinder;
  /** Calls under way: one that its user left would keep the connection, and the process, for a while. */
  readonly #calls = new Set<{ cancel(): void }>();

  /** `target` is what grpc-js dials. */
  constructor(
    address: string,
    target: string,
    credentials: ChannelCredentials,
    options: ChannelOptions = {},
  ) {
    this.address = address;
    const interceptors = options.token === undefined ? [] : [showing(options.token)];
    const channelOptions = {
      ...CHANNEL_OPTIONS,
      ...(options.tlsName && { 'grpc.ssl_target_name_override': options.tlsName }),
      interceptors,
    };
    const dial = () => new Client(target, credentials, channelOptions);
    this.#client = dial();
    this.#domain = new FaultDomain(`the connection to ${address}`, () => {
      this.close();
      this.#client = dial();
    });
    this.#fixed = options.dialect;
    this.#firstAnswerMs = options.firstAnswerMs;
    this.#dialects = new DialectFinder(address);
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
      this.unaryAs(await this.#dialect(method, signal), method, request, signal),
    );
  }

  async unaryAs<Q, R>(dialect: Dialect, method: Method<Q, R>, request: Q, signal?: AbortSignal): Promise<R> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<R>();
    return this.#domain.run(() => {
      const watch = new CallWatch(IDLE_MS, () => call.cancel());
      const call = untraced(() =>
        this.#client.makeUnaryRequest(
          methodPath(dialect, method),
          method.request.encode,
          method.response.decode,
          request,
          watch.metadata,
          (error, response) => {
            watch.end();
            signal?.removeEventListener('abort', cancel);
            this.#calls.delete(call);
            if (error) reject(this.#failure(error, signal, watch));
            else resolve(response!);
          },
        ),
      );
      const cancel = () => call.cancel();
      signal?.addEventListener('abort', cancel, { once: true });
      this.#calls.add(call);
      return promise;
    });
  }

  /** A stream of answers. It is begun again while the peer cannot be reached and nothing has come. */
  async *serverStream<Q, R>(method: Method<Q, R>, request: Q, signal?: AbortSignal): AsyncGenerator<R> {
    const begun = await this.#retry(signal, async () => {
      const messages = this.serverStreamAs(await this.#dialect(method, signal), method, request, signal);
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
    const cancel = () => call.cancel();
    const watch = new CallWatch(IDLE_MS, cancel);
    const call = this.#domain.begin(() =>
      holdingFew(() =>
        this.#client.makeServerStreamRequest(
          methodPath(dialect, method),
          method.request.encode,
          method.response.decode,
          request,
          watch.metadata,
        ),
      ),
    );
    signal?.addEventListener('abort', cancel, { once: true });
    this.#calls.add(call);
    try {
      for await (const message of this.#domain.stream<R>(call)) {
        watch.arrived();
        yield message;
      }
    } catch (error) {
      throw this.#failure(error as ServiceError, signal, watch);
    } finally {
      watch.end();
      signal?.removeEventListener('abort', cancel);
      this.#calls.delete(call);
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
      const dialect = await this.#dialect(method, signal);
      signal?.throwIfAborted();
      const { promise, resolve, reject } = Promise.withResolvers<R[]>();
      return this.#domain.run(() => {
        let received = 0;
        const watch = new CallWatch(IDLE_MS, () => call.cancel());
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
            watch.metadata,
          ),
        );
        const cancel = () => call.cancel();
        signal?.addEventListener('abort', cancel, { once: true });
        this.#calls.add(call);
        const over = () => {
          watch.end();
          signal?.removeEventListener('abort', cancel);
          this.#calls.delete(call);
        };
        const messages: R[] = [];
        call.on('data', (message: R) => messages.push(message));
        call.on('error', (error: ServiceError) => {
          over();
          reject(this.#failure(error, signal, watch));
        });
        call.on('end', () => {
          over();
          resolve(messages);
        });
        return promise;
      });
    });
  }

  /** Sends a stream and gives the answer. Not repeated: the stream is gone. */
  async clientStream<Q, R>(
    method: Method<Q, R>,
    requests: AsyncIterable<Q> | Iterable<Q>,
    signal?: AbortSignal,
  ): Promise<R> {
    const dialect = await this.#retry(signal, () => this.#dialect(method, signal));
    signal?.throwIfAborted();
    const answer = Promise.withResolvers<R>();
    const call = this.#domain.begin(() =>
      this.#client.makeClientStreamRequest(
        methodPath(dialect, method),
        (encoded: Buffer) => encoded,
        method.response.decode,
        (error, response) => {
          if (error) answer.reject(this.#failure(error, signal));
          else answer.resolve(response!);
        },
      ),
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
    this.#calls.add(call);
    const timer = setTimeout(() => {
      const idle = `${this.address}: no progress for ${IDLE_MS / 1000} s`;
      answer.reject(new StoreError('DEADLINE_EXCEEDED', idle));
      call.cancel();
    }, IDLE_MS).unref();
    try {
      return await this.#domain.run(async () => {
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
        return answer.promise;
      });
    } catch (error) {
      call.cancel();
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      this.#calls.delete(call);
    }
  }

  /** Has a service's dialect found out by a harmless call, once. */
  detect(service: string, probe: Probe): void {
    this.#dialects.detect(service, probe);
  }

  async #dialect({ service }: { readonly service: string }, signal?: AbortSignal): Promise<Dialect> {
    if (this.#fixed) return this.#fixed;
    const dialect = this.#dialects.of(service);
    return orAborted(dialect, signal);
  }

  async #retry<T>(signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
    if (this.#firstAnswerMs !== undefined) {
      const { address } = this;
      const milliseconds = this.#firstAnswerMs;
      this.#reached ??= this.#domain.begin(() => reach(this.#client, address, milliseconds));
      if (!(await orAborted(this.#reached, signal))) return attempt();
    }
    return retrying(RETRIES, signal, attempt);
  }

  #failure(error: ServiceError | StoreError, signal: AbortSignal | undefined, watch?: CallWatch): unknown {
    if (signal?.aborted) return signal.reason;
    if (watch?.isIdle)
      return new StoreError('DEADLINE_EXCEEDED', `${this.address}: nothing arrived for ${IDLE_MS / 1000} s`);
    return error instanceof StoreError ? error : failureOf(this.address, error);
  }

  close(): void {
    for (const call of this.#calls) call.cancel();
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

/** grpc-js takes a stack trace of every call in case it fails: a twentieth of the time of a short one. */
function untraced<T>(begin: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return begin();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
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
