import type { Chunk } from '../../../castore/blob/service.ts';
import { invalid } from '../../../util/errors.ts';
import { digestIn } from './named.ts';

/** A name is kept of an upload that was cut. */
const MAX_UUID_LENGTH = 100;
/** Words that stand in a name for something: none of them is a part of an instance's name. */
const KEYWORDS = [
  'blobs',
  'uploads',
  'actions',
  'actionResults',
  'operations',
  'capabilities',
  'compressed-blobs',
];

/** What a name of ByteStream's stands for. */
export interface Resource extends Chunk {
  readonly isCompressed: boolean;
  /** Of an upload. */
  readonly uuid?: string;
}

/**
 * Reads a name of what is to be read: `[INSTANCE/]blobs/blake3/HASH/SIZE`, or with `compressed-blobs/zstd` in the place of
 * `blobs`. Every instance is the same store. Throws INVALID_ARGUMENT.
 */
export function parseReadName(name: string): Resource {
  const parts = behindInstance(name);
  const { resource, rest } = parseBlob(parts);
  if (rest.length > 0) throw malformed();
  return resource;
}

/** Reads a name of an upload: `[INSTANCE/]uploads/UUID/` before the other, and anything behind it. Throws INVALID_ARGUMENT. */
export function parseUploadName(name: string): Resource & { readonly uuid: string } {
  const [uploads, uuid = '', ...parts] = behindInstance(name);
  if (uploads !== 'uploads' || uuid === '' || uuid.length > MAX_UUID_LENGTH) throw malformed();
  return { ...parseBlob(parts).resource, uuid };
}

function behindInstance(name: string): string[] {
  const parts = name.split('/');
  const begin = parts.findIndex((part) => KEYWORDS.includes(part));
  if (begin < 0 || parts.slice(0, begin).includes('')) throw malformed();
  return parts.slice(begin);
}

function parseBlob(parts: readonly string[]): { resource: Resource; rest: readonly string[] } {
  const [kind] = parts;
  if (kind !== 'blobs' && kind !== 'compressed-blobs') throw malformed();
  const isCompressed = kind === 'compressed-blobs';
  const [compressor, named] = isCompressed ? [parts[1], parts.slice(2)] : [undefined, parts.slice(1)];
  if (isCompressed && compressor !== 'zstd')
    throw invalid('want zstd as the compressor: there is no other here');
  const [digestFunction, hash = '', size = '', ...rest] = named;
  if (digestFunction !== 'blake3')
    throw invalid(`want blake3 as the digest function: …/${kind}/blake3/HASH/SIZE`);
  if (!/^(?:0|[1-9]\d{0,14})$/.test(size)) throw malformed();
  return { resource: { digest: digestIn(hash), size: Number(size), isCompressed }, rest };
}

function malformed() {
  return invalid(
    'want [INSTANCE/][uploads/UUID/]blobs/blake3/HASH/SIZE as the name, or compressed-blobs/zstd for blobs',
  );
}
