import type Long from 'long';
import type { Chunk } from '../../../castore/blob/service.ts';
import { Digest } from '../../../castore/digest.ts';
import { BLAKE3 } from '../../../proto/grpc/methods.ts';
import { toBigInt } from '../../../proto/long.ts';
import { invalid } from '../../../util/errors.ts';

/** A digest as the Remote Execution API has it. */
export interface Named {
  hash?: string | null;
  sizeBytes?: number | Long | null;
}

/** Throws INVALID_ARGUMENT for another digest function: none is guessed, since one of SHA-256 looks like ours. */
export function requireBlake3(digestFunction: number | null | undefined): void {
  if (digestFunction !== BLAKE3)
    throw invalid(`want BLAKE3 (${BLAKE3}) as the digest function: there is no other here`);
}

/** Reads a digest. Throws INVALID_ARGUMENT for what is none. */
export function chunkOf(named: Named | null | undefined): Chunk {
  return { digest: digestIn(named?.hash ?? ''), size: sizeIn(named) };
}

/** What a digest says of the size, right or not. */
export function sizeIn(named: Named | null | undefined): number {
  return Number(toBigInt(named?.sizeBytes));
}

export function digestIn(hash: string): Digest {
  if (!/^[0-9a-f]{64}$/.test(hash)) throw invalid('want 64 lower-case hexadecimal digits as the hash');
  return Digest.of(Buffer.from(hash, 'hex'));
}
