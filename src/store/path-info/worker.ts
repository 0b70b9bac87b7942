import { parseKnownContentAddress, printContentAddress } from '../../nix/content-address.ts';
import { Hash } from '../../nix/hash.ts';
import { printNamed } from '../../nix/named-bytes.ts';
import type { Signature } from '../../nix/signature.ts';
import { MAX_SIGNATURES, parseSignature } from '../../nix/signature.ts';
import { StorePath } from '../../nix/store-path.ts';
import type { WireReader } from '../../nix/worker/reader.ts';
import type { WireWriter } from '../../nix/worker/writer.ts';
import { toHex } from '../../util/bytes.ts';
import { invalid } from '../../util/errors.ts';
import type { PathDescription } from './path-info.ts';

const DERIVATION = '.drv';

export async function readPath(from: WireReader): Promise<StorePath> {
  return StorePath.parseAbsolute(await from.text());
}

export async function readPaths(from: WireReader): Promise<StorePath[]> {
  return (await from.texts()).map((path) => StorePath.parseAbsolute(path));
}

export async function readSignatures(from: WireReader): Promise<Signature[]> {
  const texts = await from.texts();
  if (texts.length > MAX_SIGNATURES)
    throw invalid(`${texts.length} signatures, at most ${MAX_SIGNATURES} are allowed`);
  return texts.map(parseSignature);
}

/** In the order that Nix keeps sets of them. */
export function writePaths(to: WireWriter, paths: readonly StorePath[]): void {
  const texts = paths.map((path) => path.absolute());
  to.texts(isAscending(texts) ? texts : [...new Set(texts)].sort());
}

/** As they mostly come: in order, and each once. */
function isAscending(texts: readonly string[]): boolean {
  for (let i = 1; i < texts.length; i++) if (texts[i - 1]! >= texts[i]!) return false;
  return true;
}

/** Writes what is known of a path, without the path. `added` in seconds since 1970. */
export function writeDescription(to: WireWriter, info: PathDescription, added = 0): void {
  to.text(info.deriver ? info.deriver.absolute() + DERIVATION : '');
  to.text(toHex(info.narSha256));
  writePaths(to, info.references);
  to.number(Math.floor(added)).number(info.narSize);
  // Whether it was built here, which nobody can say any more.
  to.flag(false);
  to.texts(info.signatures.map(printNamed));
  to.text(info.ca ? printContentAddress(info.ca) : '');
}

/** Reads what is told of a path, or what comes behind the path. Throws INVALID_ARGUMENT. */
export async function readDescription(from: WireReader, known?: StorePath): Promise<PathDescription> {
  const storePath = known ?? (await readPath(from));
  const deriver = await from.text();
  const narSha256 = sha256Of(await from.text());
  const references = await readPaths(from);
  // When it was added there.
  await from.number();
  const narSize = await from.number();
  await from.flag();
  const signatures = await readSignatures(from);
  const ca = await from.text();
  return {
    storePath,
    references,
    narSha256,
    narSize,
    signatures,
    // Nothing depends on it: what is none is left out, as by Nix.
    deriver: deriver.endsWith(DERIVATION)
      ? StorePath.parseAbsolute(deriver.slice(0, -DERIVATION.length))
      : undefined,
    ca: ca === '' ? undefined : parseKnownContentAddress(ca),
  };
}

function sha256Of(text: string): Uint8Array {
  const hash = Hash.parse(text.includes(':') || text.includes('-') ? text : `sha256:${text}`);
  if (hash.algorithm !== 'sha256') throw invalid(`a NAR hash by ${hash.algorithm}, want sha256`);
  return hash.digest;
}
