import type { ServiceError } from '@grpc/grpc-js';
import type { FaultDomain } from '../../util/async/fault-domain.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import { CallWatch } from './call-watch.ts';
import { follow, holdingFew, IDLE_MS, untraced } from './calls.ts';
import type { Connection } from './connection.ts';
import { failureOf } from './failure.ts';
import type { Dialect, Method } from './methods.ts';
import { isPut, methodPath } from './methods.ts';

/** What a call is made on, and which it is. */
interface On<Q, R> {
  readonly connection: Connection;
  readonly dialect: Dialect;
  readonly method: Method<Q, R>;
  readonly signal?: AbortSignal | undefined;
}

/** Single calls of each shape, as grpc-js makes them, each watched over. None is repeated here. */
export class Wire {
  readonly #domain: FaultDomain;
  readonly #address: string;
  readonly #ifBrokenOff: string | undefined;

  /** `ifBrokenOff`: see `ChannelOptions`. */
  constructor(domain: FaultDomain, address: string, ifBrokenOff: string | undefined) {
    this.#domain = domain;
    this.#address = address;
    this.#ifBrokenOff = ifBrokenOff;
  }

  /** One request, one answer. */
  async unary<Q, R>({ connection, dialect, method, signal }: On<Q, R>, request: Q): Promise<R> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<R>();
    return this.#domain.run(() => {
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
      const over = follow({ connection, call, watch, signal, sends: isPut(method) });
      return promise;
    });
  }

  /** A stream of answers. */
  async *stream<Q, R>({ connection, dialect, method, signal }: On<Q, R>, request: Q): AsyncGenerator<R> {
    signal?.throwIfAborted();
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

  /** All of a stream of answers. Throws DATA_LOSS for one of more than `most` bytes. */
  async whole<Q, R>(
    { connection, dialect, method, signal }: On<Q, R>,
    request: Q,
    most: number,
  ): Promise<R[]> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<R[]>();
    return this.#domain.run(() => {
      let received = 0;
      const watch = new CallWatch(IDLE_MS, () => call.cancel());
      const call = untraced(() =>
        connection.client.makeServerStreamRequest(
          methodPath(dialect, method),
          method.request.encode,
          (bytes: Buffer) => {
            received += bytes.length;
            if (received > most) {
              reject(damaged(`${this.#address} sent more than was asked for`));
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
  }

  /** A stream of requests, one answer. */
  async send<Q, R>(
    { connection, dialect, method, signal }: On<Q, R>,
    requests: AsyncIterable<Q> | Iterable<Q>,
  ): Promise<R> {
    signal?.throwIfAborted();
    const answer = Promise.withResolvers<R>();
    const watch = new CallWatch(IDLE_MS, () => call.cancel());
    const call = this.#domain.begin(() =>
      connection.client.makeClientStreamRequest(
        methodPath(dialect, method),
        (encoded: Buffer) => encoded,
        method.response.decode,
        watch.metadata,
        (error, response) => {
          if (error) answer.reject(this.#failure(error, signal, watch));
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
    const over = follow({ connection, call, watch, signal, sends: true });
    try {
      return await this.#domain.run(async () => {
        for await (const request of requests) {
          if (answered) break;
          // Encoded at once: grpc-js would do so later, when the sender may have changed what it lent.
          if (!call.write(method.request.encode(request))) {
            await Promise.race([new Promise((resolve) => call.once('drain', resolve)), answer.promise]);
          }
        }
        call.end();
        return answer.promise;
      });
    } catch (error) {
      call.cancel();
      throw error;
    } finally {
      over();
    }
  }

  #failure(error: ServiceError | StoreError, signal: AbortSignal | undefined, watch?: CallWatch): unknown {
    if (signal?.aborted) return signal.reason;
    if (watch?.isIdle)
      return new StoreError('DEADLINE_EXCEEDED', `${this.#address}: nothing moved for ${IDLE_MS / 1000} s`);
    return error instanceof StoreError ? error : failureOf(this.#address, error, this.#ifBrokenOff);
  }
}
