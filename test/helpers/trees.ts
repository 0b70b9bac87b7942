import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { randomBytes, randomNumbers } from './random.ts';

/** A tree of files. Names are strings of one character a byte, so that they need not be UTF-8. */
export type Tree =
  | { readonly kind: 'directory'; readonly entries: Record<string, Tree> }
  | { readonly kind: 'file'; readonly contents: Uint8Array; readonly executable: boolean }
  | { readonly kind: 'symlink'; readonly target: string };

export function directory(entries: Record<string, Tree> = {}): Tree {
  return { kind: 'directory', entries };
}

export function file(contents: Uint8Array | string = '', executable = false): Tree {
  return { kind: 'file', contents: Buffer.from(contents), executable };
}

export function symlink(target: string): Tree {
  return { kind: 'symlink', target };
}

/** Writes a tree to the file system. */
export function writeTree(path: string | Buffer, tree: Tree): void {
  const at = Buffer.from(path);
  switch (tree.kind) {
    case 'directory':
      mkdirSync(at);
      for (const [name, child] of Object.entries(tree.entries)) {
        writeTree(Buffer.concat([at, Buffer.from('/'), Buffer.from(name, 'latin1')]), child);
      }
      break;
    case 'file':
      writeFileSync(at, tree.contents);
      chmodSync(at, tree.executable ? 0o755 : 0o644);
      break;
    case 'symlink':
      symlinkSync(Buffer.from(tree.target, 'latin1'), at);
  }
}

/** A tree of about `files` files, some large and many the same, that depends on the seed alone. */
export function generateTree(files: number, seed: number): Tree {
  const random = randomNumbers(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const contents = () => {
    const kind = below(100);
    if (kind === 0) return randomBytes(200_000 + below(800_000), below(1e9));
    if (kind < 4) return randomBytes(60_000 + below(80_000), below(1e9));
    if (kind < 30) return randomBytes(100, below(10));
    return randomBytes(below(6000), below(1e9));
  };
  const fill = (count: number, depth: number): Tree => {
    const entries: Record<string, Tree> = {};
    for (let left = count, i = 0; left > 0; i++) {
      const inner = depth > 0 && left > 4 ? below(left / 2) : 0;
      if (inner > 2) {
        entries[`d${i}`] = fill(inner, depth - 1);
        left -= inner;
      } else {
        entries[`f${i}`] = below(20) === 0 ? symlink(`../f${i}`) : file(contents(), below(5) === 0);
        left--;
      }
    }
    return directory(entries);
  };
  return fill(files, 4);
}

/** Reads a tree as the facts write it: `('d', {b'name': ('f', b'contents', False), …})`, `('l', b'target')`. */
export function parseTree(text: string): Tree {
  const tokens = [...text.matchAll(/b'((?:[^'\\]|\\.)*)'|'(\w)'|True|False|[(){},:]/g)];
  let next = 0;
  const take = () => tokens[next++]!;
  const bytes = () =>
    take()[1]!.replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_, hex: string | undefined, character: string) => {
      if (hex) return String.fromCharCode(Number.parseInt(hex, 16));
      return { n: '\n', t: '\t', r: '\r' }[character] ?? character;
    });
  const skip = (count: number) => {
    next += count;
  };
  const tree = (): Tree => {
    skip(1);
    const kind = take()[2];
    skip(1);
    if (kind === 'd') {
      const entries: Record<string, Tree> = {};
      skip(1);
      while (tokens[next]![0] !== '}') {
        if (tokens[next]![0] === ',') skip(1);
        const name = bytes();
        skip(1);
        entries[name] = tree();
      }
      skip(2);
      return directory(entries);
    }
    const value = bytes();
    if (kind === 'l') {
      skip(1);
      return symlink(value);
    }
    skip(1);
    const executable = take()[0] === 'True';
    skip(1);
    return file(Buffer.from(value, 'latin1'), executable);
  };
  return tree();
}
