import { setTimeout as delay } from 'node:timers/promises';
import type { ObjectFacts } from '../../castore/objects/object-store.ts';
import { parseContentEncoding, undoEncodings } from '../../util/compression/content-encoding.ts';
import { damaged, messageOf, StoreError } from '../../util/errors.ts';
import type { CacheFiles, FileOptions } from './files.ts';
import type { Answer, HttpPatience, HttpSecrets } from './http-client.ts';
import { HTTP_PATIENCE, HttpClient, resolveAddress, shownUrl } from './http-client.ts';

/** How often a file may be cut off without a good part of it having come since the last time. */
const MAX_CUTS = 5;
const GOOD_PART = 256 * 1024;

/** The files of a binary cache on the web. A transfer that is cut off goes on where it ended. */
export class HttpCacheFiles implements CacheFiles {
  readonly address: string;
  readonly #base: URL;
  readonly #client: HttpClient;
  readonly #patience: HttpPatience;

  /** `base` ends in a slash and names no user. */
  constructor(base: URL, secrets: HttpSecrets = {}, patience: HttpPatience = HTTP_PATIENCE) {
    this.address = `nix+${base.href.replace(/\/$/, '')}`;
    this.#base = base;
    this.#patience = patience;
    this.#client = new HttpClient(base, secrets, patience);
  }

  async read(path: string, { size, signal }: FileOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    const url = resolveAddress(path, this.#base);
    const answer = await this.#client.get(url, {}, signal);
    if (!answer) return undefined;
    const encodings = parseContentEncoding(answer.headers['content-encoding']);
    // The length that is known is that of the file, not of what it was made for the way.
    const contents = this.#resumed(url, answer, encodings.length > 0 ? undefined : size, signal);
    return undoEncodings(encodings, contents);
  }

  /** What is said of a file: `undefined` when there is none. Throws UNAVAILABLE where its server does not say how long it is. */
  async facts(path: string, signal: AbortSignal): Promise<ObjectFacts | undefined> {
    const url = resolveAddress(path, this.#base);
    const headers = await this.#client.head(url, signal);
    if (!headers) return undefined;
    const size = headers['content-length'] ?? '';
    if (!/^\d{1,15}$/.test(size))
      throw new StoreError('UNAVAILABLE', `${shownUrl(url)}: the server does not say how long it is`);
    return { size: Number(size), modified: Date.parse(headers['last-modified'] ?? '') || 0 };
  }

  async *#resumed(url: URL, first: Answer, size: bigint | undefined, signal: AbortSignal) {
    const { etag } = first.headers;
    const whole = size ?? wholeLength(first);
    const condition = etag?.startsWith('"') ? { 'if-range': etag } : {};
    let offset = 0;
    let cuts = 0;
    for (let answer = first; ; ) {
      const start = offset;
      try {
        if (isAtEnd(answer, offset, size)) return;
        // What is made for the way in another way has other bytes there.
        if (!isEncodedAs(answer, first)) throw new Error('it goes on in another encoding');
        // Who cannot begin in the middle begins anew.
        for await (const part of behind(answer.body, answer.status === 206 ? 0 : offset)) {
          offset += part.length;
          yield part;
        }
        if (size === undefined || BigInt(offset) >= size) return;
        throw new Error('it ended too early');
      } catch (error) {
        signal.throwIfAborted();
        // All of it has come, and only its end has not been heard.
        if (whole !== undefined && BigInt(offset) === whole) return;
        cuts = offset - start >= GOOD_PART ? 1 : cuts + 1;
        if (cuts === MAX_CUTS) {
          throw new StoreError(
            'UNAVAILABLE',
            `${shownUrl(url)}: cut off after ${offset} bytes: ${messageOf(error)}`,
            {
              cause: error,
            },
          );
        }
      }
      await delay(this.#patience.pauseMs * (cuts - 1), undefined, { signal });
      answer = await this.#goOn(url, offset, condition, signal);
    }
  }

  async #goOn(
    url: URL,
    offset: number,
    condition: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Answer> {
    const answer = await this.#client.get(url, { range: `bytes=${offset}-`, ...condition }, signal);
    if (!answer)
      throw new StoreError('UNAVAILABLE', `${shownUrl(url)}: it was removed while it was being read`);
    const range = answer.headers['content-range'];
    if (answer.status === 206 && !range?.startsWith(`bytes ${offset}-`)) {
      throw damaged(`${shownUrl(url)}: asked for what follows ${offset} bytes, got ${JSON.stringify(range)}`);
    }
    return answer;
  }

  async check(): Promise<void> {}

  close(): Promise<void> {
    return this.#client.close();
  }
}

/** Yields the part of a stream behind its first `count` bytes. */
async function* behind(source: AsyncIterable<Uint8Array>, count: number): AsyncGenerator<Uint8Array> {
  for await (const part of source) {
    if (count >= part.length) count -= part.length;
    else {
      yield count > 0 ? part.subarray(count) : part;
      count = 0;
    }
  }
}

/** The length that an answer says it has. */
function wholeLength({ status, headers }: Answer): bigint | undefined {
  const text = headers['content-length'] ?? '';
  return status === 200 && /^\d{1,18}$/.test(text) ? BigInt(text) : undefined;
}

/** Whether a server says, asked for what follows so many bytes, that there are no more. */
function isAtEnd({ status, headers }: Answer, offset: number, size: bigint | undefined): boolean {
  if (status !== 416) return false;
  if (headers['content-range'] === `bytes */${offset}` && (size === undefined || size <= offset)) return true;
  throw new Error('it has become shorter');
}

function isEncodedAs(one: Answer, other: Answer): boolean {
  const [a, b] = [one, other].map(({ headers }) => parseContentEncoding(headers['content-encoding']).join());
  return a === b;
}
