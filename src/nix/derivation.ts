import { invalid } from '../util/errors.ts';
import { StorePath } from './store-path.ts';

/** An output of a derivation; without a path where that follows from what is built. */
export interface DerivationOutput {
  readonly name: string;
  readonly path: StorePath | undefined;
}

/** Longest derivation that is read, in bytes. */
export const MAX_DERIVATION_LENGTH = 64 << 20;

/** One output: a list of four strings, of which those behind the path are not looked at. */
const OUTPUT = /\("([^"\\]*)","([^"\\]*)","[^"\\]*","[^"\\]*"\)(,|\])/y;

/** Finds the outputs of a derivation, as a `.drv` file has it (ATerm). Throws INVALID_ARGUMENT. */
export function outputsOf(text: string): DerivationOutput[] {
  const begin = /^Derive\(\[|^DrvWithVersion\("[^"\\]*",\[/.exec(text)?.[0];
  if (begin === undefined) throw invalid('not a derivation');
  const outputs: DerivationOutput[] = [];
  OUTPUT.lastIndex = begin.length;
  for (;;) {
    const [, name, path, end] = OUTPUT.exec(text) ?? [];
    if (end === undefined) throw invalid('not a derivation: its outputs cannot be read');
    outputs.push({ name: name!, path: path ? StorePath.parseAbsolute(path) : undefined });
    if (end === ']') return outputs;
  }
}
