import { Digest } from '../../src/castore/digest.ts';
import { tvix } from '../../src/proto/messages.ts';

const { BlobChunk, ReadBlobRequest, StatBlobResponse } = tvix.castore.v1;

/** Methods that a script answers. */
export const STAT = 'BlobService/Stat';
export const READ = 'BlobService/Read';
export const GET = 'DirectoryService/Get';

/** A message of an answer to READ. */
export const chunk = (data: Uint8Array) => BlobChunk.encode({ data }).finish();

/** An answer to STAT. */
export const chunkList = (...parts: Uint8Array[]) => [
  StatBlobResponse.encode({
    chunks: parts.map((part) => ({ digest: Digest.hash(part).bytes, size: part.length })),
  }).finish(),
];

/** What READ asks for. */
export const asked = (request: Buffer) => Digest.of(ReadBlobRequest.decode(request).digest);

/** Answers READ with these contents by their digests, honestly. */
export function reads(...contents: Uint8Array[]) {
  const byDigest = new Map(contents.map((bytes) => [Digest.hash(bytes).hex, bytes]));
  return (request: Buffer) => {
    const bytes = byDigest.get(asked(request).hex);
    return bytes ? [chunk(bytes)] : 'NOT_FOUND';
  };
}
