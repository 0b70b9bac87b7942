import { closeSync, mkdirSync, openSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Random } from './random.ts';

/** How many of each a tree has, the root included; `small` are files in a folder of their own. */
export interface TreeSize {
  readonly directories: number;
  readonly files: number;
  readonly links: number;
  readonly small: number;
}

/** Paths relative to the root. */
export interface TreeContent {
  readonly directories: readonly string[];
  /** The small ones too. */
  readonly files: readonly string[];
  readonly small: readonly string[];
  readonly entries: readonly string[];
}

const SOURCE_TREE: TreeSize = { directories: 1_700, files: 14_000, links: 100, small: 2_000 };
const SMALL_SIZE = 100;

/**
 * Writes a tree like that of a large program's source (median file 4 KiB, a few up to 1 MiB, 200 MB in
 * all) with one flat folder of small files, or one of another size. Returns what is in it.
 */
export function writeSourceTree(root: string, size = SOURCE_TREE): TreeContent {
  const random = new Random(1);
  const directories = ['.'];
  const files: string[] = [];
  const links: string[] = [];
  const small: string[] = [];

  mkdirSync(root, { recursive: true });
  while (directories.length < size.directories - 1) {
    // Squared, so that folders near the root have more children: files lie four or five names deep.
    const parent = directories[Math.floor(directories.length * random.fraction() ** 2)]!;
    const path = join(parent, `folder-${directories.length}`);
    mkdirSync(join(root, path));
    directories.push(path);
  }
  while (files.length < size.files) {
    const path = join(pick(directories, random), `file-${files.length}.ts`);
    const mode = random.fraction() < 0.1 ? 0o755 : 0o644;
    writeFileSync(join(root, path), random.bytes(sourceFileSize(random)), { mode });
    files.push(path);
  }
  while (links.length < size.links) {
    const path = join(pick(directories, random), `link-${links.length}`);
    symlinkSync('../file', join(root, path));
    links.push(path);
  }
  directories.push('small');
  mkdirSync(join(root, 'small'));
  while (small.length < size.small) {
    const path = join('small', `file-${small.length}.txt`);
    writeFileSync(join(root, path), random.bytes(SMALL_SIZE));
    small.push(path);
  }
  return {
    directories,
    files: [...files, ...small].sort(),
    small,
    entries: [...directories, ...files, ...links, ...small].sort(),
  };
}

/** Log-normal round 4 KiB. */
function sourceFileSize(random: Random): number {
  return Math.min(2 ** 20, Math.round(4096 * Math.exp(1.55 * random.normal())));
}

function pick(list: readonly string[], random: Random): string {
  return list[random.below(list.length)]!;
}

/** Writes `size` bytes that no chunk of another file repeats, unless it has the same number. */
export function writeRandomFile(path: string, size: number, number = 0): void {
  const random = new Random(2 + number);
  const file = openSync(path, 'w');
  const step = 8 * 2 ** 20;
  for (let written = 0; written < size; written += step) {
    writeSync(file, random.bytes(Math.min(step, size - written)));
  }
  closeSync(file);
}

const FILES_IN_A_FOLDER = 99;

/** Writes a tree of tiny files, no two alike (the mount keeps a node for each content). */
export function writeManyEntries(root: string, entries: number): void {
  for (let folder = 0; folder < entries / (FILES_IN_A_FOLDER + 1); folder++) {
    const path = join(root, `folder-${folder}`);
    mkdirSync(path, { recursive: true });
    for (let file = 0; file < FILES_IN_A_FOLDER; file++) {
      writeFileSync(join(path, `file-${file}`), `${root} ${folder} ${file}\n`);
    }
  }
}
