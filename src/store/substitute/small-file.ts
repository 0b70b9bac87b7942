import { collect } from '../../util/bytes.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import type { CacheFiles } from './files.ts';

/** Of the body of a small file, so much has to come in so long, in bytes and milliseconds, or all of it. */
const SMALL_BYTES = 16 << 10;
const SMALL_MS = 10_000;

/** A file that is to have at most `limit` bytes, and not to drip; `undefined` when there is none. */
export async function readSmall(
  files: CacheFiles,
  file: string,
  limit: number,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const late = new AbortController();
  const contents = await files.read(file, { signal: AbortSignal.any([signal, late.signal]) });
  if (!contents) return undefined;
  let fresh = 0;
  const timer = setInterval(() => {
    if (fresh < SMALL_BYTES) {
      const tooLate = `${file} of ${files.address} has not come within ${SMALL_MS / 1000} s`;
      late.abort(new StoreError('UNAVAILABLE', tooLate));
    }
    fresh = 0;
  }, SMALL_MS).unref();
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const part of contents) {
      fresh += part.length;
      yield part;
    }
  };
  try {
    const bytes = await collect(counted(), limit);
    if (!bytes) throw damaged(`${file} of ${files.address} is longer than ${limit} bytes`);
    return bytes;
  } finally {
    clearInterval(timer);
  }
}
