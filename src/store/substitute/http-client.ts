import type { IncomingHttpHeaders } from 'node:http';
import { request } from 'undici';
import { tellingArrivals } from '../../util/async/arrivals.ts';
import { FaultDomain } from '../../util/async/fault-domain.ts';
import { Outage } from '../../util/async/outage.ts';
import { Pools, SILENT_MS } from '../../util/async/pools.ts';
import type { Patience } from '../../util/async/retry.ts';
import { Retries } from '../../util/async/retry.ts';
import { messageOf, StoreError, systemCode } from '../../util/errors.ts';
import { trustAuthorities } from '../../util/system/authorities.ts';
import { whyUnreachable } from '../../util/unreachable.ts';
import { HttpPool } from './http-pool.ts';
import type { Credentials } from './netrc.ts';

/** A server's answer: 200, or 206 or 416 to a request for a range. The body has to be read or left. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: AsyncIterable<Uint8Array>;
}

export interface HttpPatience extends Patience {
  /** A server may take so long to be reached, to answer, and from one part to the next, in milliseconds. */
  readonly idleMs: number;
  /** Pause before a server that failed is asked for the second time; it doubles with each. */
  readonly pauseMs: number;
}

export const HTTP_PATIENCE: HttpPatience = { idleMs: 20_000, pauseMs: 250, awayMs: 20_000 };

/** Longest pause before a server that failed is asked again, in milliseconds. */
const MAX_PAUSE_MS = 2000;
/** What comes with an answer that is none, such as an error page, is taken for so long, in milliseconds, and up to so many bytes. */
const REST_MS = 1000;
const REST_BYTES = 128 << 10;
const REDIRECTS = 10;
const REDIRECT_STATUSES = [301, 302, 303, 307, 308];
/** A file that is not there; buckets that cannot be listed say 403. */
const ABSENT_STATUSES = [403, 404, 410];
const LASTING_STATUSES = [501, 505, 511];
/** What gateways say of a server that is away: it is asked again sooner than one that has failed. */
const AWAY_STATUSES = [502, 503, 504];
const USER_AGENT = 'tvix-store';

type Method = 'GET' | 'HEAD';

/** What is asked for at each request or connection, since it may change. */
export interface HttpSecrets {
  readonly credentials?: (() => Credentials | undefined) | undefined;
  /** Gives the authority (PEM) that alone is trusted, in place of those of the machine. */
  readonly ca?: (() => Buffer) | undefined;
}

/** A failure that may be over soon. */
class Passing extends StoreError {
  /** How long the server asks to wait, in milliseconds. */
  readonly waitMs: number | undefined;
  /** Whether the server is not there, rather than failing. */
  readonly isAway: boolean;

  constructor(
    message: string,
    { cause, isAway, waitMs }: { cause?: unknown; isAway: boolean; waitMs?: number | undefined },
  ) {
    super('UNAVAILABLE', message, { cause });
    this.isAway = isAway;
    this.waitMs = waitMs;
  }
}

/**
 * Asks one server, with patience: what fails for reasons that pass is tried again. Redirects are followed, but
 * never from https to http; credentials go to the server they are for, and to no other.
 */
export class HttpClient {
  readonly #origin: string;
  readonly #credentials: (() => Credentials | undefined) | undefined;
  readonly #patience: HttpPatience;
  readonly #domain: FaultDomain;
  readonly #pools: Pools<HttpPool>;
  #hasAnswered = false;
  readonly #outage: Outage;
  /** After so long without a byte, in milliseconds, a body is looked for elsewhere. */
  #silentMs = SILENT_MS;

  constructor(base: URL, { credentials, ca }: HttpSecrets, patience: HttpPatience) {
    this.#origin = base.origin;
    this.#patience = patience;
    this.#outage = new Outage(base.href);
    this.#credentials = credentials;
    if (base.protocol === 'https:') trustAuthorities();
    this.#pools = new Pools(() => new HttpPool(patience.idleMs, ca));
    this.#domain = new FaultDomain(`the connection to ${base.origin}`, () => this.#pools.reset());
  }

  /** How long to wait for the first answer of all, if there is such a limit and that has not come. */
  get #firstMs(): number | undefined {
    return this.#hasAnswered ? undefined : this.#patience.firstAnswerMs;
  }

  /** `undefined` when there is no such file. Throws UNAVAILABLE when it cannot be had now. */
  get(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Answer | undefined> {
    return this.#request('GET', url, headers, signal);
  }

  /** What is said of a file; the rest as for `get`. */
  async head(url: URL, signal: AbortSignal): Promise<IncomingHttpHeaders | undefined> {
    const answer = await this.#request('HEAD', url, {}, signal);
    for await (const _ of answer?.body ?? []);
    return answer?.headers;
  }

  async #request(
    method: Method,
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Answer | undefined> {
    const { awayMs, pauseMs } = this.#patience;
    let failures = 0;
    const isTransient = (error: unknown) => error instanceof Passing && this.#firstMs === undefined;
    const retries = new Retries({ awayMs, isTransient, onFailure: this.#outage.failed, signal });
    for (;;) {
      try {
        const answer = await this.#follow(method, url, headers, signal);
        this.#outage.answered();
        return answer;
      } catch (error) {
        if (!(error instanceof Passing)) throw error;
        const pause = error.isAway ? 0 : Math.min(pauseMs * 2 ** failures++, MAX_PAUSE_MS);
        await retries.after(error, Math.max(pause, error.waitMs ?? 0) || undefined);
      }
    }
  }

  async #follow(
    method: Method,
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Answer | undefined> {
    for (let hops = 0; hops <= REDIRECTS; hops++) {
      const { pool, answer } = await this.#ask(method, url, headers, signal);
      const { statusCode, body } = answer;
      if (statusCode === 200 || (statusCode === 206 && headers.range)) {
        const parts = tellingArrivals(this.#parts(url, pool, body, signal));
        return { status: statusCode, headers: answer.headers, body: parts };
      }
      // Not waited for: it may never end.
      void this.#domain
        .run(() => body.dump({ limit: REST_BYTES, signal: AbortSignal.timeout(REST_MS) }))
        .catch(() => {});
      if (statusCode === 416 && headers.range)
        return { status: 416, headers: answer.headers, body: nothing() };
      if (ABSENT_STATUSES.includes(statusCode)) return undefined;
      if (!REDIRECT_STATUSES.includes(statusCode)) throw refusal(url, statusCode, answer.headers);
      const { location } = answer.headers;
      if (!location) {
        throw new StoreError(
          'UNAVAILABLE',
          `${shownUrl(url)}: the server answered ${statusCode} without saying where to go`,
        );
      }
      url = resolveAddress(String(location), url);
    }
    throw new StoreError('UNAVAILABLE', `${shownUrl(url)}: redirected more than ${REDIRECTS} times`);
  }

  async #ask(method: Method, url: URL, headers: Record<string, string>, signal: AbortSignal) {
    const credentials = url.origin === this.#origin ? this.#credentials?.() : undefined;
    // Of the headers, all of them: a body may take longer.
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(new Error('timeout')), this.#firstMs ?? this.#patience.idleMs);
    try {
      const all = {
        ...headers,
        'user-agent': USER_AGENT,
        ...(credentials ? { authorization: basic(credentials) } : {}),
      };
      const answer = await this.#domain.run(() =>
        this.#pools.ask(
          async (pool, until) => ({
            pool,
            answer: await request(url, { dispatcher: pool.agent, method, signal: until, headers: all }),
          }),
          AbortSignal.any([signal, late.signal]),
        ),
      );
      this.#hasAnswered = true;
      return answer;
    } catch (error) {
      const why = whyUnreachable(messageOf(error) || systemCode(error) || 'it breaks off');
      throw new Passing(`${shownUrl(url)}: ${why}`, { cause: error, isAway: true });
    } finally {
      clearTimeout(timer);
    }
  }

  /** A body as it comes. It breaks when its connection is silent though the server is there. */
  async *#parts(
    url: URL,
    pool: HttpPool,
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const parts = this.#domain.stream<Uint8Array>(body);
    const again = ({ agent }: HttpPool, until: AbortSignal) =>
      this.#domain.run(async () => {
        const answer = await request(url, { dispatcher: agent, method: 'HEAD', signal: until });
        await answer.body.dump();
        return undefined;
      });
    try {
      for (;;) {
        const next = await this.#pools.wait(pool, parts.next(), {
          again,
          silentMs: this.#silentMs,
          signal,
        });
        if (next === undefined) {
          // If it is the server that stood still, it has longer the next time.
          this.#silentMs = Math.min(this.#silentMs * 2, this.#patience.idleMs);
          throw new Passing(`${shownUrl(url)}: its connection went silent`, { isAway: true });
        }
        if (next.done) return;
        this.#silentMs = SILENT_MS;
        yield next.value;
      }
    } finally {
      // Not waited for: what is silent may never answer.
      void parts.return(undefined).catch(() => {});
    }
  }

  async close(): Promise<void> {
    this.#pools.close();
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

function basic({ user, password }: Credentials): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

/**
 * Where something is that is named relative to `base`, or by an address of its own. Throws PERMISSION_DENIED for
 * what is not on the web, or would be asked for in the clear where the rest is not.
 */
export function resolveAddress(text: string, base: URL): URL {
  const shown = JSON.stringify(text.slice(0, 200));
  let url: URL;
  try {
    url = new URL(text, base);
  } catch (error) {
    throw new StoreError('INVALID_ARGUMENT', `${shownUrl(base)} refers to ${shown}, which is no address`, {
      cause: error,
    });
  }
  if (url.protocol !== 'https:' && url.protocol !== base.protocol) {
    throw new StoreError('PERMISSION_DENIED', `${shownUrl(base)} refers to ${shown}, where it must not lead`);
  }
  url.username = '';
  url.password = '';
  return url;
}

/** An address for people: what it is asked with may be secret, as where buckets redirect to. */
export function shownUrl({ origin, pathname }: URL): string {
  return origin + pathname;
}

function refusal(url: URL, status: number, headers: IncomingHttpHeaders): StoreError {
  if (status === 401 || status === 407) {
    return new StoreError(
      'PERMISSION_DENIED',
      `${shownUrl(url)}: the credentials are missing or not accepted (${status}); give a netrc-file`,
    );
  }
  const passes = status === 408 || status === 429 || (status >= 500 && !LASTING_STATUSES.includes(status));
  const message = `${shownUrl(url)}: the server answered ${status}`;
  return passes
    ? new Passing(message, { isAway: AWAY_STATUSES.includes(status), waitMs: retryAfter(headers) })
    : new StoreError('UNAVAILABLE', message);
}

/** Seconds, or a date. */
function retryAfter(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
