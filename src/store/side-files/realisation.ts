import { parseSignature } from '../../nix/signature.ts';
import { STORE_DIR, StorePath } from '../../nix/store-path.ts';
import { invalid } from '../../util/errors.ts';
import type { SideFileName } from './name.ts';
import { parseObject } from './name.ts';

/** Signatures that one may have. */
const MAX_SIGNATURES = 1000;

/** Says which store path an output of a derivation has become. */
export interface Realisation {
  readonly outPath: StorePath;
  /** As they came: text, or the two parts of one. */
  readonly signatures: readonly unknown[];
  /** All of it. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Reads a realisation, whose name says of what it must be. Throws INVALID_ARGUMENT. */
export function parseRealisation({ text }: SideFileName, contents: Uint8Array): Realisation {
  const fields = parseObject(contents);
  const { id, outPath, signatures = [] } = fields;
  const named = /^realisations\/(.*)\.doi$/.exec(text)?.[1];
  if (named !== undefined && id !== undefined && id !== named)
    throw invalid(`this is the realisation of ${JSON.stringify(id).slice(0, 300)}, not of ${named}`);
  if (typeof outPath !== 'string') throw invalid('a realisation without its outPath');
  if (!Array.isArray(signatures) || signatures.length > MAX_SIGNATURES)
    throw invalid(`a realisation needs a list of signatures, of at most ${MAX_SIGNATURES}`);
  for (const signature of signatures) checkSignature(signature);
  const path = outPath.startsWith(`${STORE_DIR}/`)
    ? StorePath.parseAbsolute(outPath)
    : StorePath.parse(outPath);
  return { outPath: path, signatures, fields };
}

function checkSignature(signature: unknown): void {
  const { keyName, sig } = (signature ?? {}) as Record<string, unknown>;
  parseSignature(typeof signature === 'string' ? signature : `${keyName}:${sig}`);
}

/** The bytes of a realisation with the signatures of an older one of the same output, if that became the same path. */
export function withSignaturesOf(
  older: Realisation | undefined,
  { outPath, signatures, fields }: Realisation,
): Uint8Array {
  const kept = older && String(older.outPath) === String(outPath) ? older.signatures : [];
  const all = new Map([...kept, ...signatures].map((signature) => [JSON.stringify(signature), signature]));
  return Buffer.from(JSON.stringify({ ...fields, signatures: [...all.values()].slice(0, MAX_SIGNATURES) }));
}
