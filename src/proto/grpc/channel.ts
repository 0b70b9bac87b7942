import type { ChannelCredentials, ServiceError } from '@grpc/grpc-js';
import { Client } from '@grpc/grpc-js';
import { orAborted } from '../../util/async/abort.ts';
import { FaultDomain } from '../../util/async/fault-domain.ts';
import { Outage } from '../../util/async/outage.ts';
import type { Patience, RetryOptions } from '../../util/async/retry.ts';
import { resuming, retrying } from '../../util/async/retry.ts';
import type { Code } from '../../util/errors.ts';
import { damaged, messageOf, StoreError } from '../../util/errors.ts';
import { CallWatch } from './call-watch.ts';
import { follow, holdingFew, IDLE_MS, showing, untraced } from './calls.ts';
import { FreshCredentials } from './credentials.ts';
import type { Probe } from './dialect-finder.ts';
import { DialectFinder } from './dialect-finder.ts';
import { failureOf } from './failure.ts';
import { Line } from './line.ts';
import type { Dialect, Method } from './methods.ts';
import { methodPath, TRANSPORT_OPTIONS } from './methods.ts';
import { reach } from './reach.ts';

/** Failures after which it is worth while to ask again. */
const TRANSIENT: readonly Code[] = ['UNAVAILABLE', 'DEADLINE_EXCEEDED'];

const CHANNEL_OPTIONS = {
  ...TRANSPORT_OPTIONS,
  // This much may still arrive of an answer that nobody reads on; 8 MiB was no faster between two processes.
  'grpc-node.flow_control_window': 4 << 20,
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 1000,
  // A host that has moved is looked for at once.
  'grpc.dns_min_time_between_resolutions_ms': 1000,
  // A connection belongs to one channel: another one is not to inherit what broke.
  'grpc.use_local_subchannel_pool': 1,
};

export interface ChannelOptions {
  /** Found out for each service unless it is given. */
  readonly dialect?: Dialect | undefined;
  /** Gives what is shown with every call, to be let in. */
  readonly token?: (() => string) | undefined;
  readonly patience: Patience;
  /** The name that a TLS handshake asks for in place of the host's. */
  readonly tlsName?: string | undefined;
}

/** A connection to a peer, shared by the services at one address. Errors name the peer. */
export class Channel {
  /** The peer, as a person wrote it. */
  readonly address: string;
  readonly #domain: FaultDomain;
  readonly #line: Line;
  readonly #fixed: Dialect | undefined;
  readonly #patience: Patience;
  readonly #outage: Outage;
  #reached: Promise<boolean> | undefined;
  /** Whether it is worth while to wait for the peer. */
  #mayReturn: boolean;
  readonly #dialects: DialectFinder;

  /** `target` is what grpc-js dials; `credentials` gives what a new connection shows. */
  constructor(
    address: string,
    target: string,
    credentials: () => ChannelCredentials,
    options: ChannelOptions,
  ) {
    this.address = address;
    const { token, tlsName } = options;
    const channelOptions = {
      ...CHANNEL_OPTIONS,
      ...(tlsName && { 'grpc.ssl_target_name_override': tlsName }),
      interceptors: token === undefined ? [] : [showing(token)],
    };
    this.#domain = new FaultDomain(`the connection to ${address}`, () => this.#line.reset());
    this.#line = new Line((onSocket) =>
      this.#domain.begin(
        () => new Client(target, new FreshCredentials(credentials, onSocket), channelOptions),
      ),
    );
    this.#fixed = options.dialect;
    this.#patience = options.patience;
    this.#mayReturn = options.patience.firstAnswerMs === undefined;
    this.#outage = new Outage(address);
    this.#dialects = new DialectFinder(address);
  }

  /** Resolves when there is a connection. Throws UNAVAILABLE after `milliseconds`. */
  async connect(milliseconds: number): Promise<void> {
    try {
      await this.#line.connection.ready(milliseconds);
    } catch (error) {
      throw new StoreError('UNAVAILABLE', `cannot connect to ${this.address}: ${messageOf(error)}`);
    }
  }

  /** A call with one answer. It is repeated while the peer cannot be reached: only for what may be repeated. */
  unary<Q, R>(method: Method<Q, R>, request: Q, signal?: AbortSignal): Promise<R> {
    return this.#spoken(method, signal, (dialect) => this.unaryAs(dialect, method, request, signal));
  }

  async unaryAs<Q, R>(dialect: Dialect, method: Method<Q, R>, request: Q, signal?: AbortSignal): Promise<R> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<R>();
    return this.#domain.run(() => {
      const connection = this.#line.take();
      const watch = new CallWatch(IDLE_MS, () => call.cancel());
      const call = untraced(() =>
        connection.client.makeUnaryRequest(
          methodPath(dialect, method),
          method.request.encode,
          method.response.decode,
          request,
          watch.metadata,
          (error, response) => {
            over();
            if (error) reject(this.#failure(error, signal, watch));
            else resolve(response!);
          },
        ),
      );
      const over = follow({ connection, call, watch, signal, sends: method.name === 'Put' });
      return promise;
    });
  }

  /** A stream of answers. It is begun again while the peer cannot be reached and nothing has come. */
  async *serverStream<Q, R>(method: Method<Q, R>, request: Q, signal?: AbortSignal): AsyncGenerator<R> {
    const begun = await this.#spoken(method, signal, async (dialect) => {
      const messages = this.serverStreamAs(dialect, method, request, signal);
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
    const connection = this.#domain.begin(() => this.#line.take());
    const watch = new CallWatch(IDLE_MS, () => call.cancel());
    const call = this.#domain.begin(() =>
      holdingFew(() =>
        connection.client.makeServerStreamRequest(
          methodPath(dialect, method),
          method.request.encode,
          method.response.decode,
          request,
          watch.metadata,
        ),
      ),
    );
    const over = follow({ connection, call, watch, signal });
    try {
      for await (const message of this.#domain.stream<R>(call)) {
        watch.arrived();
        yield message;
      }
    } catch (error) {
      throw this.#failure(error as ServiceError, signal, watch);
    } finally {
      over();
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
    return this.#spoken(method, signal, async (dialect) => {
      signal?.throwIfAborted();
      const { promise, resolve, reject } = Promise.withResolvers<R[]>();
      return this.#domain.run(() => {
        let received = 0;
        const connection = this.#line.take();
        const watch = new CallWatch(IDLE_MS, () => call.cancel());
        const call = untraced(() =>
          connection.client.makeServerStreamRequest(
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
        const over = follow({ connection, call, watch, signal });
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
    const connection = this.#domain.begin(() => this.#line.take());
    const call = this.#domain.begin(() =>
      connection.client.makeClientStreamRequest(
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
    const over = follow({ connection, call, signal, sends: true });
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
      over();
    }
  }

  /** Has a service's dialect found out by a harmless call, once. */
  detect(service: string, probe: Probe): void {
    this.#dialects.detect(service, probe);
  }

  /** Makes a call that may be repeated, in the dialect of its service. */
  #spoken<T>(
    method: { readonly service: string },
    signal: AbortSignal | undefined,
    call: (dialect: Dialect) => Promise<T>,
  ): Promise<T> {
    return this.#retry(signal, async () => {
      const dialect = await this.#dialect(method, signal);
      try {
        return await call(dialect);
      } catch (error) {
        const isForeign = error instanceof StoreError && error.code === 'UNIMPLEMENTED';
        if (!isForeign || this.#fixed || this.#dialects.knows(method.service)) throw error;
        // It was a guess, since the peer was away when it was asked.
        throw new StoreError('UNAVAILABLE', error.message, { cause: error });
      }
    });
  }

  async #dialect({ service }: { readonly service: string }, signal?: AbortSignal): Promise<Dialect> {
    if (this.#fixed) return this.#fixed;
    const dialect = this.#dialects.of(service);
    return orAborted(dialect, signal);
  }

  /**
   * Hands on what `begin` makes of a stream of answers, and has it begun again when the peer is gone meanwhile: then
   * `begin` leaves out what has come.
   */
  resumed<T>(begin: () => AsyncIterable<T>, signal?: AbortSignal): AsyncGenerator<T> {
    return resuming(this.#retries(signal), begin);
  }

  async #retry<T>(signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
    const { firstAnswerMs } = this.#patience;
    if (firstAnswerMs !== undefined) {
      this.#reached ??= this.#domain.begin(() =>
        reach(this.#line.connection.client, this.address, firstAnswerMs),
      );
      this.#mayReturn = await orAborted(this.#reached, signal);
    }
    const result = await retrying(this.#retries(signal), attempt);
    this.#outage.answered();
    return result;
  }

  #retries(signal: AbortSignal | undefined): RetryOptions {
    return {
      awayMs: this.#patience.awayMs,
      isTransient: (error) =>
        this.#mayReturn && error instanceof StoreError && TRANSIENT.includes(error.code),
      onFailure: this.#outage.failed,
      signal,
    };
  }

  #failure(error: ServiceError | StoreError, signal: AbortSignal | undefined, watch?: CallWatch): unknown {
    if (signal?.aborted) return signal.reason;
    if (watch?.isIdle)
      return new StoreError('DEADLINE_EXCEEDED', `${this.address}: nothing arrived for ${IDLE_MS / 1000} s`);
    return error instanceof StoreError ? error : failureOf(this.address, error);
  }

  close(): void {
    this.#line.close();
  }
}
