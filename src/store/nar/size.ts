import type { Node } from '../../castore/node.ts';
import { NarWriter } from '../../nix/nar/writer.ts';
import { Turns } from '../../util/async/turns.ts';
import type { Services } from '../services.ts';
import { writeStep } from './render.ts';
import { narSteps } from './steps.ts';

/**
 * Length of the NAR of a tree in the store, in bytes. No contents are read, and nothing more once it is longer
 * than `limit`. Throws DATA_LOSS when a directory is missing.
 */
export async function narSize(
  castore: Pick<Services, 'directories'>,
  root: Node,
  limit: number,
  signal?: AbortSignal,
): Promise<number> {
  const nar = new NarWriter({ update() {}, skip() {} });
  const turns = new Turns();
  for await (const steps of narSteps(castore, root, signal)) {
    if (nar.size > limit) break;
    if (turns.isDue) await turns.take();
    for (const step of steps) {
      if (step.kind !== 'file') writeStep(nar, step);
      else {
        const size = Number(step.node.size);
        nar.beginFile(size, step.node.executable);
        nar.skipContents(size);
        nar.endFile();
      }
    }
  }
  return nar.size;
}
