import { FIELDS, isKey } from '../../nix/narinfo/fields.ts';
import { keyOf } from '../../nix/narinfo/lines.ts';
import type { NarInfo } from '../../nix/narinfo/narinfo.ts';
import type { PathDescription } from '../path-info/path-info.ts';

/** The lines that a path info has no place for: other keys, the system, a deriver that is not known. */
export function linesBeside(narInfo: NarInfo): string {
  const lines = narInfo.toString().split('\n').slice(0, -1);
  const beside = lines.filter((line) => {
    const key = keyOf(line);
    if (key === 'Deriver' || key === 'CA') return narInfo[FIELDS[key].name] === undefined;
    return key !== '' && (key === 'System' || !isKey(key));
  });
  return beside.map((line) => `${line}\n`).join('');
}

/** Of such lines, those that do not contradict what has become known since. */
export function linesBesideKnown(lines: string, { deriver, ca }: PathDescription): string {
  const isTold = (line: string) => (deriver && line.startsWith('Deriver:')) || (ca && line.startsWith('CA:'));
  return lines.replace(/^.*\n/gm, (line) => (isTold(line) ? '' : line));
}
