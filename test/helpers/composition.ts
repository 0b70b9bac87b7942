import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempDir } from './temp.ts';

/** A section of one service in memory. */
export const MEMORY = (section: string) => `[${section}.root]\ntype = "memory"\n`;
export const SECTIONS = ['blobservices', 'directoryservices', 'pathinfoservices'];

/** A composition file with this text; where it is to be complete, sections that it lacks are in memory. */
export function compositionFile(text: string, complete = true): string {
  const rest = SECTIONS.filter((section) => complete && !text.includes(section)).map(MEMORY);
  const file = join(tempDir(), 'store.toml');
  writeFileSync(file, `${text}\n${rest.join('')}`);
  return file;
}
