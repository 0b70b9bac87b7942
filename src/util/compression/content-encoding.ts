import { StoreError } from '../errors.ts';
import { decompress, parseCompression } from './decompress.ts';
import type { Bytes } from './through.ts';

/** The encodings that a Content-Encoding header names, in the order in which they were applied. */
export function parseContentEncoding(header: string | undefined): string[] {
  return (header ?? '')
    .toLowerCase()
    .split(',')
    .map((encoding) => encoding.trim().replace(/^x-/, ''))
    .filter((encoding) => encoding !== '' && encoding !== 'identity');
}

/** More than one is hardly ever met, and each takes memory of its own. */
const MOST = 2;

/** Undoes these encodings. Throws UNIMPLEMENTED for one that is not known, and for too many. */
export function undoEncodings(encodings: readonly string[], source: Bytes): Bytes {
  if (encodings.length > MOST)
    throw new StoreError('UNIMPLEMENTED', `${encodings.length} content encodings, one upon another`);
  let contents = source;
  for (const encoding of encodings.toReversed()) contents = decompress(parseCompression(encoding), contents);
  return contents;
}
