import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { request } from 'undici';
import { MAX_NARINFO_LENGTH } from '../../nix/narinfo/narinfo.ts';
import { collect } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { whyUnreachable } from '../../util/unreachable.ts';
import type { HttpSecrets } from '../substitute/http-client.ts';
import { HttpCacheFiles } from '../substitute/http-files.ts';
import { HttpPool } from '../substitute/http-pool.ts';
import { readSmall } from '../substitute/small-file.ts';
import type { CacheTargetFiles } from './binary-cache-target.ts';

/** How often something is sent, and the pause before the second time in milliseconds; it doubles with each. */
const ATTEMPTS = 5;
const PAUSE_MS = 250;
/** A server may take nothing of a body for so long, and so long to be reached and to answer, in milliseconds. */
const STALLED_MS = 60_000;
const ANSWER_MS = 300_000;
/** What it says with its answer is taken for so long, in milliseconds. */
const SAID_MS = 1000;

/** A failure that may be over soon. */
class Passing extends StoreError {}

/** A binary cache on the web that takes uploads, as Nix makes them: by PUT. */
export class CacheUpload implements CacheTargetFiles {
  readonly address: string;
  readonly #base: URL;
  readonly #reading: HttpCacheFiles;
  readonly #credentials: HttpSecrets['credentials'];
  readonly #pool: HttpPool;
  readonly #signal: AbortSignal;

  /** `base` ends in a slash and names no user. */
  constructor(base: URL, secrets: HttpSecrets, signal: AbortSignal) {
    this.address = `nix+${base.href.replace(/\/$/, '')}`;
    this.#base = base;
    this.#reading = new HttpCacheFiles(base, secrets);
    this.#credentials = secrets.credentials;
    this.#pool = new HttpPool(ANSWER_MS, secrets.ca);
    this.#signal = signal;
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    return readSmall(this.#reading, name, MAX_NARINFO_LENGTH, this.#signal);
  }

  async has(name: string, length: bigint): Promise<boolean> {
    return this.#patiently(async () => {
      const { statusCode, headers } = await this.#ask(
        'HEAD',
        name,
        AbortSignal.any([this.#signal, AbortSignal.timeout(ANSWER_MS)]),
      );
      const told = headers['content-length'];
      return statusCode === 200 && (told === undefined || told === String(length));
    });
  }

  async write(name: string, length: bigint, make: () => AsyncIterable<Uint8Array>): Promise<void> {
    await this.#patiently(async () => {
      const stalled = new AbortController();
      let timer = setTimeout(() => stalled.abort(new Error('it takes nothing more')), STALLED_MS);
      let failure: unknown;
      const body = async function* () {
        try {
          for await (const part of make()) {
            timer.refresh();
            // Whoever made it may use the memory again.
            yield Buffer.from(part);
          }
        } catch (error) {
          failure = error;
          throw error;
        } finally {
          clearTimeout(timer);
          // An upload that has failed may come here last: then nobody clears it.
          timer = setTimeout(() => stalled.abort(new Error('it does not answer')), ANSWER_MS).unref();
        }
      };
      try {
        const signal = AbortSignal.any([this.#signal, stalled.signal]);
        const headers = { 'content-length': String(length) };
        await this.#ask('PUT', name, signal, { body: Readable.from(body(), { objectMode: false }), headers });
      } catch (error) {
        // What cannot be read cannot be sent the next time either.
        throw failure ?? error;
      } finally {
        clearTimeout(timer);
      }
    });
  }

  async #ask(
    method: 'HEAD' | 'PUT',
    name: string,
    signal: AbortSignal,
    { body, headers = {} }: { body?: Readable; headers?: Record<string, string> } = {},
  ) {
    const url = new URL(name, this.#base);
    const who = this.#credentials?.();
    const authorization = who && `Basic ${Buffer.from(`${who.user}:${who.password}`).toString('base64')}`;
    const all = { 'user-agent': 'tvix-store', ...headers, ...(authorization ? { authorization } : {}) };
    let answer: Awaited<ReturnType<typeof request>>;
    try {
      answer = await request(url, {
        dispatcher: this.#pool.agent,
        method,
        signal,
        headers: all,
        body: body ?? null,
      });
    } catch (error) {
      this.#signal.throwIfAborted();
      throw new Passing('UNAVAILABLE', `${url.href}: ${whyUnreachable(messageOf(error))}`, { cause: error });
    }
    const { statusCode } = answer;
    const said = await textOf(answer.body);
    if (statusCode < 300 || (method === 'HEAD' && statusCode < 500)) return answer;
    throw refusal(
      `${url.href}: the server answered ${statusCode}${said === '' ? '' : `: ${said}`}`,
      statusCode,
    );
  }

  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof Passing) || attempt === ATTEMPTS - 1) throw error;
        await delay(PAUSE_MS * 2 ** attempt, undefined, { signal: this.#signal });
      }
    }
  }

  async close(): Promise<void> {
    this.#pool.destroy();
    await this.#reading.close();
  }
}

/** The first line of what a server says. */
async function textOf(body: Readable): Promise<string> {
  const timer = setTimeout(() => body.destroy(), SAID_MS);
  const bytes = await collect(body, 4096).catch(() => undefined);
  clearTimeout(timer);
  return Buffer.from(bytes ?? [])
    .toString()
    .split('\n')[0]!
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, 300);
}

function refusal(message: string, status: number): StoreError {
  if (status === 401 || status === 403 || status === 407)
    return new StoreError('PERMISSION_DENIED', `${message}; who may upload is named in a netrc-file`);
  const passes = status === 408 || status === 429 || status >= 500;
  return passes ? new Passing('UNAVAILABLE', message) : new StoreError('FAILED_PRECONDITION', message);
}
