import { invalid, messageOf } from '../../util/errors.ts';
import { MAX_SIGNATURES } from '../signature.ts';
import type { Field, Key } from './fields.ts';
import { FIELDS, isKey, KEYS } from './fields.ts';
import type { NarInfoValues } from './values.ts';

/** The keys that signatures have. */
const SIGNATURES = KEYS.filter((key) => FIELDS[key].name === 'signatures');

/** The key of a line, `''` of an empty one, which says nothing. Throws INVALID_ARGUMENT for what is no line of a narinfo. */
export function keyOf(line: string): string {
  if (line === '') return '';
  const colon = line.indexOf(':');
  // Nix skips the byte after the colon, whatever it is; caches that write none are not known.
  if (colon < 0 || (line.length > colon + 1 && line[colon + 1] !== ' ')) {
    throw invalid(
      `invalid narinfo: want a key, a colon and a space, found ${JSON.stringify(line.slice(0, 200))}`,
    );
  }
  return line.slice(0, colon);
}

/** Reads the values in the lines. Lines with other keys are ignored. Throws INVALID_ARGUMENT. */
export function parseLines(lines: readonly string[]): NarInfoValues {
  const found = new Map<Key, string[]>();
  for (const line of lines) {
    const key = keyOf(line);
    if (!isKey(key)) continue;
    const text = line.slice(key.length + 2);
    const texts = found.get(key);
    if (!texts) found.set(key, [text]);
    else if (FIELDS[key].repeats) texts.push(text);
    else throw invalid(`invalid narinfo: ${key} is there twice`);
  }
  const counted = SIGNATURES.reduce((sum, key) => sum + (found.get(key)?.length ?? 0), 0);
  if (counted > MAX_SIGNATURES)
    throw invalid(`invalid narinfo: ${counted} signatures, at most ${MAX_SIGNATURES} are allowed`);
  const values: Partial<Record<keyof NarInfoValues, unknown>> = {};
  for (const key of KEYS) {
    const { name, parse } = FIELDS[key];
    try {
      const value = parse(found.get(key) ?? []);
      const before = values[name];
      values[name] = Array.isArray(before) && Array.isArray(value) ? [...before, ...value] : value;
    } catch (error) {
      throw invalid(`invalid narinfo: ${key}: ${messageOf(error)}`, { cause: error });
    }
  }
  return values as NarInfoValues;
}

/** The lines of a narinfo for one key. Throws INVALID_ARGUMENT when a value would break out of its line. */
export function linesOf(key: Key, values: NarInfoValues): string[] {
  const { name, print } = FIELDS[key] as Field;
  const lines = print(values[name]).map((text) => `${key}: ${text}`);
  const broken = lines.find((line) => line.includes('\n'));
  if (broken) throw invalid(`a line of a narinfo cannot be ${JSON.stringify(broken.slice(0, 200))}`);
  return lines;
}
