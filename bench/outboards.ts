import { randomFillSync } from 'node:crypto';
import { OutboardMaker } from '../src/castore/bao/maker.ts';
import { OutboardReader } from '../src/castore/bao/reader.ts';
import { heldOutboard } from '../src/castore/bao/whole.ts';
import { Digest } from '../src/castore/digest.ts';
import type { Experiment } from './experiment.ts';

const LENGTH = 1 << 20;
const BLOBS = 64;
/** That many times what one processor does with the native one. */
const goal = { atLeast: 1 / 3, of: 'native' };

/** Our BLAKE3 in WebAssembly beside the native one, which knows whole blobs only; on one processor. */
export const outboardExperiments: readonly Experiment[] = [
  {
    name: 'outboards',
    columns: ['native', 'tvix-store'],
    lines: {
      made: { title: 'making outboards of 1 MiB (native: blake-hash)', unit: 'MB/s', goal },
      proven: { title: 'proving 1 MiB by them (native: blake-hash)', unit: 'MB/s', goal },
    },
    async measure(column) {
      const blobs = blobsOnce();
      if (column === 'native') {
        const speed = await speedOf(() => blobs.forEach(Digest.hash));
        return { made: speed, proven: speed };
      }
      const make = () => blobs.map((blob) => new OutboardMaker().update(blob).finish());
      const made = await speedOf(make);
      const readers = make().map((proof) => new OutboardReader(proof, heldOutboard(proof.outboard)));
      const prove = async () => {
        for (const [i, reader] of readers.entries()) await reader.prove(0, blobs[i]!);
      };
      return { made, proven: await speedOf(prove) };
    },
  },
];

let blobs: readonly Buffer[] | undefined;

function blobsOnce(): readonly Buffer[] {
  blobs ??= Array.from({ length: BLOBS }, () => randomFillSync(Buffer.alloc(LENGTH)));
  return blobs;
}

/**
 * MB/s of what goes over all blobs, by the processor's time, whatever else the machine does. The first time does not
 * count: V8 compiles.
 */
async function speedOf(work: () => unknown): Promise<number> {
  await work();
  const begun = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(begun);
  return (BLOBS * LENGTH) / (user + system);
}
