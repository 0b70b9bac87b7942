import type { ChannelCredentials } from '@grpc/grpc-js';
import { Client } from '@grpc/grpc-js';
import { orAborted } from '../../util/async/abort.ts';
import { FaultDomain } from '../../util/async/fault-domain.ts';
import { Outage } from '../../util/async/outage.ts';
import type { Patience, RetryOptions } from '../../util/async/retry.ts';
import { Retries, resuming, retrying } from '../../util/async/retry.ts';
import { isAway, mayPass } from '../../util/async/transient.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { showing } from './calls.ts';
import type { Connection } from './connection.ts';
import { FreshCredentials } from './credentials.ts';
import type { Probe } from './dialect-finder.ts';
import { DialectFinder } from './dialect-finder.ts';
import { Link } from './link.ts';
import type { AnyMethod, Dialect, Method } from './methods.ts';
import { isPut, LOOKUPS, TRANSPORT_OPTIONS } from './methods.ts';
import { reach } from './reach.ts';
import { Wire } from './wire.ts';

/** A token that is refused may be just being replaced, here or there: it is shown again for so long, in milliseconds. */
const REFUSED_MS = 3000;

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
  /** What else is to be looked at, for people, when the peer breaks off at once. */
  readonly ifBrokenOff?: string | undefined;
}

/** A connection to a peer, shared by the services at one address. Errors name the peer. */
export class Channel {
  /** The peer, as a person wrote it. */
  readonly address: string;
  readonly #domain: FaultDomain;
  readonly #link: Link;
  readonly #wire: Wire;
  readonly #fixed: Dialect | undefined;
  readonly #showsToken: boolean;
  readonly #patience: Patience;
  readonly #outage: Outage;
  #reached: Promise<boolean> | undefined;
  /** Whether it is worth while to wait for the peer. */
  #mayReturn: boolean;
  #isClosed = false;
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
    this.#domain = new FaultDomain(`the connection to ${address}`, () => this.#link.reset());
    this.#link = new Link((onSocket) =>
      this.#domain.begin(
        () => new Client(target, new FreshCredentials(credentials, onSocket), channelOptions),
      ),
    );
    this.#fixed = options.dialect;
    this.#wire = new Wire(this.#domain, address, options.ifBrokenOff);
    this.#showsToken = token !== undefined;
    this.#patience = options.patience;
    this.#mayReturn = options.patience.firstAnswerMs === undefined;
    this.#outage = new Outage(address);
    this.#dialects = new DialectFinder(address);
  }

  /** Resolves when there is a connection. Throws UNAVAILABLE after `milliseconds`. */
  async connect(milliseconds: number): Promise<void> {
    try {
      await this.#link.connection.ready(milliseconds);
    } catch (error) {
      throw new StoreError('UNAVAILABLE', `cannot connect to ${this.address}: ${messageOf(error)}`);
    }
  }

  /** A call with one answer. It is repeated while the peer cannot be reached: only for what may be repeated. */
  unary<Q, R>(method: Method<Q, R>, request: Q, signal?: AbortSignal): Promise<R> {
    return this.#spoken(method, signal, (dialect) => this.unaryAs(dialect, method, request, signal));
  }

  unaryAs<Q, R>(dialect: Dialect, method: Method<Q, R>, request: Q, signal?: AbortSignal): Promise<R> {
    return this.#on(method, signal, (connection, until) =>
      this.#wire.unary({ connection, dialect, method, signal: until }, request),
    );
  }

  /** A stream of answers. It is begun again while the peer cannot be reached and nothing has come. */
  async *serverStream<Q, R>(method: Method<Q, R>, request: Q, signal?: AbortSignal): AsyncGenerator<R> {
    const begun = await this.#spoken(method, signal, (dialect) => {
      const begin = async (connection: Connection, until?: AbortSignal) => {
        const messages = this.#wire.stream({ connection, dialect, method, signal: until }, request);
        return { messages, first: await messages.next() };
      };
      return this.#on(method, signal, begin, ({ messages }) => void messages.return(undefined));
    });
    try {
      if (begun.first.done) return;
      yield begun.first.value;
      yield* begun.messages;
    } finally {
      await begun.messages.return(undefined);
    }
  }

  serverStreamAs<Q, R>(
    dialect: Dialect,
    method: Method<Q, R>,
    request: Q,
    signal?: AbortSignal,
  ): AsyncGenerator<R> {
    return this.#wire.stream({ connection: this.#take(), dialect, method, signal }, request);
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
    return this.#spoken(method, signal, (dialect) =>
      this.#on(method, signal, (connection, until) =>
        this.#wire.whole({ connection, dialect, method, signal: until }, request, most),
      ),
    );
  }

  /** Sends a stream and gives the answer. Not repeated: the stream is gone. */
  async clientStream<Q, R>(
    method: Method<Q, R>,
    requests: AsyncIterable<Q> | Iterable<Q>,
    signal?: AbortSignal,
  ): Promise<R> {
    const dialect = await this.#retry(method, signal, () => this.#dialect(method, signal));
    return this.#wire.send({ connection: this.#take(), dialect, method, signal }, requests);
  }

  /** Sends a stream that can be made again, and gives the answer. It is repeated as a call with one answer is. */
  clientStreamAgain<Q, R>(
    method: Method<Q, R>,
    requests: () => AsyncIterable<Q> | Iterable<Q>,
    signal?: AbortSignal,
  ): Promise<R> {
    return this.#spoken(method, signal, (dialect) =>
      this.#wire.send({ connection: this.#take(), dialect, method, signal }, requests()),
    );
  }

  /** Makes a call on a connection; one that only reads perhaps on another one, too. */
  async #on<T>(
    method: AnyMethod,
    signal: AbortSignal | undefined,
    call: (connection: Connection, signal?: AbortSignal) => Promise<T>,
    leave: (answer: T) => void = () => {},
  ): Promise<T> {
    if (!LOOKUPS.has(method)) return call(this.#take(), signal);
    return this.#domain.begin(() => this.#link.ask({ call, leave, signal }));
  }

  #take(): Connection {
    return this.#domain.begin(() => this.#link.take());
  }

  /** Has a service's dialect found out by a harmless call, once. */
  detect(service: string, probe: Probe): void {
    this.#dialects.detect(service, probe);
  }

  /** Makes a call that may be repeated, in the dialect of its service. */
  #spoken<T>(
    method: AnyMethod,
    signal: AbortSignal | undefined,
    call: (dialect: Dialect) => Promise<T>,
  ): Promise<T> {
    return this.#retry(method, signal, async () => {
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
    return resuming(this.#retries(true, signal), begin);
  }

  /** The tries of work that goes on where it was when the peer is gone meanwhile. */
  tries(signal?: AbortSignal): Retries {
    return new Retries(this.#retries(false, signal));
  }

  async #retry<T>(method: AnyMethod, signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
    const { firstAnswerMs } = this.#patience;
    if (firstAnswerMs !== undefined) {
      this.#reached ??= this.#domain.begin(() =>
        reach(this.#link.connection.client, this.address, firstAnswerMs),
      );
      this.#mayReturn = await orAborted(this.#reached, signal);
    }
    try {
      const result = await retrying(this.#retries(!isPut(method), signal), attempt);
      this.#outage.answered();
      return result;
    } catch (error) {
      // That is an answer, too.
      if (error instanceof StoreError && error.code === 'NOT_FOUND') this.#outage.answered();
      throw error;
    }
  }

  #retries(reads: boolean, signal: AbortSignal | undefined): RetryOptions {
    return {
      awayMs: this.#patience.awayMs,
      isTransient: (error, sinceMs) =>
        this.#mayReturn && !this.#isClosed && (reads ? this.#mayPass(error, sinceMs) : isAway(error)),
      onFailure: this.#outage.failed,
      signal,
    };
  }

  #mayPass(error: unknown, sinceMs: number): boolean {
    const isRefused = error instanceof StoreError && error.code === 'UNAUTHENTICATED';
    return isRefused ? this.#showsToken && sinceMs < REFUSED_MS : mayPass(error, sinceMs);
  }

  close(): void {
    this.#isClosed = true;
    this.#link.close();
  }
}
