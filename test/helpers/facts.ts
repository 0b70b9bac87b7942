import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe } from 'vitest';
import { ROOT } from './cli.ts';

/** Facts about the existing implementations; the file lies beside the repository. */
const FOLDER = join(ROOT, '../shared/conformance');
const FILE = join(FOLDER, 'facts.json');
const CORPUS = join(FOLDER, 'narinfo-corpus.txt');

// biome-ignore lint/suspicious/noExplicitAny: every area has a shape of its own
type Json = any;

export interface Fact {
  readonly id: string;
  readonly area: string;
  readonly name: string;
  readonly input: Json;
  readonly expected: Json;
}

const ALL: Fact[] = existsSync(FILE) ? JSON.parse(readFileSync(FILE, 'utf8')).facts : [];

/** The facts of an area; none when the file is not there. */
export function facts(area: string): Fact[] {
  return ALL.filter((fact) => fact.area === area);
}

/** Declares tests that need the facts; skipped, by a name that says so, where the file is missing. */
export function describeFacts(area: string, declare: (facts: Fact[]) => void): void {
  const found = facts(area);
  if (found.length > 0) describe(`conformance facts: ${area}`, () => declare(found));
  else describe.skip(`conformance facts: ${area} (${FILE} is missing)`, () => declare(found));
}

/** Declares tests that need the corpus of real narinfos; skipped, by a name that says so, where it is missing. */
export function describeCorpus(declare: (narinfos: string[]) => void): void {
  const found = existsSync(CORPUS)
    ? readFileSync(CORPUS, 'utf8')
        .split(/(?<=\n)\n/)
        .filter(Boolean)
    : [];
  if (found.length > 0) describe('real narinfos', () => declare(found));
  else describe.skip(`real narinfos (${CORPUS} is missing)`, () => declare(found));
}
