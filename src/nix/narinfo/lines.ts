import { invalid, messageOf } from '../../util/errors.ts';
import type { Field, Key } from './fields.ts';
import { FIELDS, isKey, KEYS } from './fields.ts';
import type { NarInfoValues } from './values.ts';

/** The key of a line. Throws INVALID_ARGUMENT for what is no line of a narinfo. */
export function keyOf(line: string): string {
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
    const texts = found.get(key) ?? [];
    if (texts.length > 0 && !FIELDS[key].repeats) throw invalid(`invalid narinfo: ${key} is there twice`);
    found.set(key, [...texts, line.slice(key.length + 2)]);
  }
  const parsed = KEYS.map((key) => {
    try {
      return [FIELDS[key].name, FIELDS[key].parse(found.get(key) ?? [])];
    } catch (error) {
      throw invalid(`invalid narinfo: ${key}: ${messageOf(error)}`, { cause: error });
    }
  });
  return Object.fromEntries(parsed);
}

/** The lines of a narinfo for one key. Throws INVALID_ARGUMENT when a value would break out of its line. */
export function linesOf(key: Key, values: NarInfoValues): string[] {
  const { name, print } = FIELDS[key] as Field;
  const lines = print(values[name]).map((text) => `${key}: ${text}`);
  const broken = lines.find((line) => line.includes('\n'));
  if (broken) throw invalid(`a line of a narinfo cannot be ${JSON.stringify(broken.slice(0, 200))}`);
  return lines;
}
