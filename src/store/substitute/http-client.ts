import type { IncomingHttpHeaders } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { tellingArrivals } from '../../util/async/arrivals.ts';
import { FaultDomain } from '../../util/async/fault-domain.ts';
import { messageOf, StoreError, systemCode } from '../../util/errors.ts';
import { whyUnreachable } from '../../util/unreachable.ts';
import type { Credentials } from './netrc.ts';

/** A server's answer: 200, or 206 to a request for a range. The body has to be read or left. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: AsyncIterable<Uint8Array>;
}

export interface HttpPatience {
  /** A server may take so long to be reached, to answer, and from one part to the next, in milliseconds. */
  readonly idleMs: number;
  /** Pause before the second attempt; it doubles with each. */
  readonly pauseMs: number;
  /** No attempt begins later than this after the first. */
  readonly totalMs: number;
  /** One that has never answered is given up after so long, in milliseconds, and not asked again. */
  readonly firstAnswerMs?: number | undefined;
}

export const HTTP_PATIENCE: HttpPatience = { idleMs: 20_000, pauseMs: 250, totalMs: 20_000 };

const ATTEMPTS = 5;
const CONNECTIONS = 25;
const REDIRECTS = 10;
const REDIRECT_STATUSES = [301, 302, 303, 307, 308];
/** A file that is not there; buckets that cannot be listed say 403. */
const ABSENT_STATUSES = [403, 404, 410];
const LASTING_STATUSES = [501, 505, 511];
const USER_AGENT = 'tvix-store';

/** A failure that may be over soon. */
class Passing extends StoreError {
  /** How long the server asks to wait, in milliseconds. */
  readonly waitMs: number | undefined;

  constructor(message: string, options: { cause?: unknown; waitMs?: number | undefined } = {}) {
    super('UNAVAILABLE', message, options);
    this.waitMs = options.waitMs;
  }
}

/**
 * Asks one server, with patience: what fails for reasons that pass is tried again. Redirects are followed, but
 * never from https to http; credentials go to the server they are for, and to no other.
 */
export class HttpClient {
  readonly #origin: string;
  readonly #authorization: string | undefined;
  readonly #patience: HttpPatience;
  readonly #domain: FaultDomain;
  #agent: Agent;
  #hasAnswered = false;

  constructor(base: URL, credentials: Credentials | undefined, patience: HttpPatience) {
    this.#origin = base.origin;
    this.#patience = patience;
    if (credentials) {
      const { user, password } = credentials;
      this.#authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
    }
    this.#agent = this.#newAgent();
    this.#domain = new FaultDomain(`the connection to ${base.origin}`, (fault) => {
      const broken = this.#agent;
      this.#agent = this.#newAgent();
      broken.destroy(fault).catch(() => {});
    });
  }

  /** How long to wait for the first answer of all, if there is such a limit and that has not come. */
  get #firstMs(): number | undefined {
    return this.#hasAnswered ? undefined : this.#patience.firstAnswerMs;
  }

  #newAgent(): Agent {
    const { idleMs } = this.#patience;
    return new Agent({
      connections: CONNECTIONS,
      connect: { timeout: idleMs },
      headersTimeout: idleMs,
      bodyTimeout: idleMs,
    });
  }

  /** `undefined` when there is no such file. Throws UNAVAILABLE when it cannot be had now. */
  async get(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Answer | undefined> {
    const last = performance.now() + this.#patience.totalMs;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#follow(url, headers, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof Passing) || attempt === ATTEMPTS) throw error;
        if (this.#firstMs !== undefined) throw error;
        const pause = error.waitMs ?? this.#patience.pauseMs * 2 ** (attempt - 1);
        if (performance.now() + pause > last) throw error;
        await delay(pause, undefined, { signal });
      }
    }
  }

  async #follow(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Answer | undefined> {
    for (let hops = 0; hops <= REDIRECTS; hops++) {
      const answer = await this.#ask(url, headers, signal);
      const { statusCode, body } = answer;
      if (statusCode === 200 || (statusCode === 206 && headers.range)) {
        const parts = tellingArrivals(this.#domain.stream<Uint8Array>(body));
        return { status: statusCode, headers: answer.headers, body: parts };
      }
      await this.#domain.run(() => body.dump());
      if (ABSENT_STATUSES.includes(statusCode)) return undefined;
      if (!REDIRECT_STATUSES.includes(statusCode)) throw refusal(url, statusCode, answer.headers);
      url = resolveAddress(String(answer.headers.location), url);
    }
    throw new StoreError('UNAVAILABLE', `${shownUrl(url)}: redirected more than ${REDIRECTS} times`);
  }

  async #ask(url: URL, headers: Record<string, string>, signal: AbortSignal) {
    const authorized = this.#authorization && url.origin === this.#origin;
    // Of the headers: a body may take longer.
    const late = new AbortController();
    const timer =
      this.#firstMs === undefined
        ? undefined
        : setTimeout(() => late.abort(new Error('timeout')), this.#firstMs);
    try {
      const answer = await this.#domain.run(() =>
        request(url, {
          dispatcher: this.#agent,
          signal: timer === undefined ? signal : AbortSignal.any([signal, late.signal]),
          headers: {
            ...headers,
            'user-agent': USER_AGENT,
            ...(authorized ? { authorization: this.#authorization } : {}),
          },
        }),
      );
      this.#hasAnswered = true;
      return answer;
    } catch (error) {
      const why = whyUnreachable(messageOf(error) || systemCode(error) || 'it breaks off');
      throw new Passing(`${shownUrl(url)}: ${why}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
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
    ? new Passing(message, { waitMs: retryAfter(headers) })
    : new StoreError('UNAVAILABLE', message);
}

/** Seconds, or a date. */
function retryAfter(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
