import { decodeBase32, encodeBase32 } from '../../nix/base32.ts';
import { StorePath } from '../../nix/store-path.ts';
import { invalid } from '../../util/errors.ts';

/** What a side file is about. */
export type SideFileKind = 'log' | 'realisation' | 'debug-info' | 'nar';

/**
 * The name of a file that a binary cache of Nix has beside narinfos and NARs: the log of a build (`log/…`), what an output
 * of a derivation is that is addressed by its contents (`realisations/…`, from Nix 2.35 on `build-trace-v2/…`), or where
 * the debug information of a build ID is (`debuginfo/…`).
 */
export interface SideFileName {
  readonly kind: SideFileKind;
  readonly text: string;
}

const REALISATION = /^realisations\/[a-z0-9]{1,16}:[0-9a-z]{32,128}![0-9A-Za-z+\-._?=]{1,211}\.doi$/;
const BUILD_TRACE = /^build-trace-v2\/([^/]+)\/[0-9A-Za-z+\-._?=]{1,211}\.doi$/;
const DEBUG_INFO = /^debuginfo\/[0-9a-f]{8,128}(?:\.debug)?$/;
const DERIVATION = '.drv';
/** Where the NAR is that a file of debug information is in. */
const ARCHIVE = /^(?:\.\.\/)?nar\/([0-9a-z]{52})\.nar(?:\.[a-z0-9]+)?$/;

/** Reads a name. `undefined` for what none of these files can have. */
export function parseSideFileName(text: string): SideFileName | undefined {
  if (text.startsWith('log/'))
    return isDerivation(text.slice('log/'.length)) ? { kind: 'log', text } : undefined;
  if (REALISATION.test(text)) return { kind: 'realisation', text };
  if (DEBUG_INFO.test(text)) return { kind: 'debug-info', text };
  const derivation = BUILD_TRACE.exec(text)?.[1];
  return derivation !== undefined && isDerivation(derivation) ? { kind: 'realisation', text } : undefined;
}

function isDerivation(baseName: string): boolean {
  return baseName.endsWith(DERIVATION) && pathOf(baseName) !== undefined;
}

function pathOf(baseName: string): StorePath | undefined {
  try {
    return StorePath.parse(baseName);
  } catch {
    return undefined;
  }
}

/** The name of the realisation of `sha256:…!out`. Throws INVALID_ARGUMENT for what is no such name of an output. */
export function realisationOf(output: string): SideFileName {
  const name = parseSideFileName(`realisations/${output}.doi`);
  if (!name) throw invalid(`${JSON.stringify(output.slice(0, 300))} is no output of a derivation`);
  return name;
}

/** The name of a compressed NAR that is kept as it came, by its SHA-256. */
export function keptNar(sha256: Uint8Array): SideFileName {
  return { kind: 'nar', text: `nar/${encodeBase32(sha256)}.nar.bz2` };
}

/** The hash of the derivation whose log this is. */
export function derivationOf({ text }: SideFileName): Uint8Array {
  return StorePath.parse(text.slice('log/'.length)).hash;
}

/** The SHA-256 in the name of the NAR that holds this debug information. Throws INVALID_ARGUMENT. */
export function archiveOf(contents: Uint8Array): Uint8Array {
  const { archive } = parseObject(contents);
  const hash = typeof archive === 'string' ? ARCHIVE.exec(archive)?.[1] : undefined;
  if (hash === undefined)
    throw invalid('debug information that names no NAR of this cache: want {"archive": "../nar/….nar"}');
  return decodeBase32(hash);
}

/** Reads an object of JSON. Throws INVALID_ARGUMENT. */
export function parseObject(contents: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(contents).toString());
  } catch (error) {
    throw invalid('this is not JSON', { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid('want an object of JSON');
  return value as Record<string, unknown>;
}
