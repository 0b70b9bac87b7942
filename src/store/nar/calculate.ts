import type { Node } from '../../castore/node.ts';
import { ParallelSha256 } from '../../nix/nar/parallel-sha256.ts';
import { arrivalListener } from '../../util/async/arrivals.ts';
import { Turns } from '../../util/async/turns.ts';
import type { Services } from '../services.ts';
import { renderNar } from './render.ts';

/** Size and SHA-256 of the NAR of a tree in the store. Throws DATA_LOSS when a part of it is missing. */
export async function calculateNar(
  castore: Pick<Services, 'blobs' | 'directories'>,
  root: Node,
  signal?: AbortSignal,
): Promise<{ narSize: bigint; narSha256: Uint8Array }> {
  const sha256 = new ParallelSha256({ background: true });
  try {
    let size = 0;
    const onArrival = arrivalListener();
    const turns = new Turns(signal);
    for await (const part of renderNar(castore, root, { transient: true, signal })) {
      size += part.length;
      // Also of what is near: whoever waits for the end is to know that it goes on.
      onArrival?.(part.length);
      await sha256.room(part.length);
      sha256.update(part);
      if (turns.isDue) await turns.take();
    }
    return { narSize: BigInt(size), narSha256: await sha256.digest() };
  } finally {
    sha256.close();
  }
}
