import { setTimeout as delay } from 'node:timers/promises';
import { decompress, parseCompression } from '../../util/compression/decompress.ts';
import { damaged, messageOf, StoreError } from '../../util/errors.ts';
import type { CacheFiles, FileOptions } from './files.ts';
import type { Answer, HttpPatience } from './http-client.ts';
import { HTTP_PATIENCE, HttpClient, resolveAddress, shownUrl } from './http-client.ts';
import type { Credentials } from './netrc.ts';

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
  constructor(
    base: URL,
    credentials?: () => Credentials | undefined,
    patience: HttpPatience = HTTP_PATIENCE,
  ) {
    this.address = `nix+${base.href.replace(/\/$/, '')}`;
    this.#base = base;
    this.#patience = patience;
    this.#client = new HttpClient(base, credentials, patience);
  }

  async read(path: string, { size, signal }: FileOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    const url = resolveAddress(path, this.#base);
    const answer = await this.#client.get(url, {}, signal);
    if (!answer) return undefined;
    const encodings = encodingsOf(answer);
    // The length that is known is that of the file, not of what it was made for the way.
    let contents = this.#resumed(url, answer, encodings.length > 0 ? undefined : size, signal);
    for (const encoding of encodings.reverse()) contents = decompress(parseCompression(encoding), contents);
    return contents;
  }

  async *#resumed(url: URL, first: Answer, size: bigint | undefined, signal: AbortSignal) {
    const { etag } = first.headers;
    const condition = etag?.startsWith('"') ? { 'if-range': etag } : {};
    let offset = 0;
    let cuts = 0;
    for (let answer = first; ; ) {
      const start = offset;
      try {
        // Who cannot begin in the middle begins anew.
        for await (const part of behind(answer.body, answer.status === 206 ? 0 : offset)) {
          offset += part.length;
          yield part;
        }
        if (size === undefined || BigInt(offset) >= size) return;
        throw new Error('it ended too early');
      } catch (error) {
        signal.throwIfAborted();
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

/** Content encodings of an answer, in the order in which the server applied them. */
function encodingsOf({ headers }: Answer): string[] {
  return (headers['content-encoding'] ?? '')
    .toLowerCase()
    .split(',')
    .map((encoding) => encoding.trim().replace(/^x-/, ''))
    .filter((encoding) => encoding !== '' && encoding !== 'identity');
}
