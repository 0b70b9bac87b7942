import { isUtf8 } from 'node:buffer';
import type { Node } from '../../castore/node.ts';
import { NarWriter } from '../../nix/nar/writer.ts';
import { asBuffer, printable } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import type { Services } from '../services.ts';
import { writeStep } from './render.ts';
import type { NarStep } from './steps.ts';
import { narSteps } from './steps.ts';

/** Listings are made in pieces of about this many characters. */
const PIECE_LENGTH = 1 << 16;

/**
 * The listing of a NAR, as binary caches serve it (`<hash>.ls`, version 1): JSON, in pieces. No contents are
 * read. Throws UNIMPLEMENTED for a name or target that is not UTF-8, which JSON cannot hold: two such names might
 * become one.
 */
export async function* narListing(
  castore: Pick<Services, 'directories'>,
  root: Node,
  signal?: AbortSignal,
): AsyncGenerator<string> {
  const nar = new NarWriter({ update() {}, skip() {} });
  let text = '{"version":1,"root":';
  let separator = '';
  const tell = (step: NarStep) => {
    switch (step.kind) {
      case 'beginDirectory':
        text += '{"type":"directory","entries":{';
        separator = '';
        break;
      case 'endDirectory':
        text += '}}';
        break;
      case 'entry':
        text += `${separator}${quote(step.name)}:`;
        break;
      case 'endEntry':
        separator = ',';
        break;
      case 'symlink':
        text += `{"type":"symlink","target":${quote(step.target)}}`;
        break;
      case 'file': {
        const { size, executable } = step.node;
        nar.beginFile(Number(size), executable);
        const mode = executable ? '"executable":true,' : '';
        text += `{"type":"regular","size":${size},${mode}"narOffset":${nar.size}}`;
        nar.skipContents(Number(size));
        nar.endFile();
      }
    }
    if (step.kind !== 'file') writeStep(nar, step);
  };
  for await (const steps of narSteps(castore, root, signal)) {
    for (const step of steps) tell(step);
    if (text.length < PIECE_LENGTH) continue;
    yield text;
    text = '';
  }
  yield `${text}}`;
}

function quote(bytes: Uint8Array): string {
  if (!isUtf8(bytes)) {
    throw new StoreError('UNIMPLEMENTED', `no listing can hold ${printable(bytes)}, which is not UTF-8`);
  }
  return JSON.stringify(asBuffer(bytes).toString());
}
