import * as fc from 'fast-check';
import type { NarVisitor } from '../../src/nix/nar/reader.ts';
import { NarReader } from '../../src/nix/nar/reader.ts';
import { NarWriter } from '../../src/nix/nar/writer.ts';
import { names } from './arbitraries.ts';
import { BufferSink } from './services.ts';
import type { Tree } from './trees.ts';
import { directory, file, symlink } from './trees.ts';

/** The NAR of a tree, its files handed over in parts of `step` bytes. */
export function narOf(tree: Tree, step = 1 << 20): Buffer {
  const sink = new BufferSink();
  const nar = new NarWriter(sink);
  const visit = (node: Tree): void => {
    if (node.kind === 'symlink') {
      nar.symlink(Buffer.from(node.target, 'latin1'));
    } else if (node.kind === 'file') {
      nar.beginFile(node.contents.length, node.executable);
      for (let at = 0; at < node.contents.length; at += step) {
        nar.contents(node.contents.subarray(at, at + step));
      }
      nar.endFile();
    } else {
      nar.beginDirectory();
      for (const name of Object.keys(node.entries).sort()) {
        nar.beginEntry(Buffer.from(name, 'latin1'));
        visit(node.entries[name]!);
        nar.endEntry();
      }
      nar.endDirectory();
    }
  };
  visit(tree);
  nar.finish();
  if (nar.size !== sink.bytes().length) throw new Error('the writer counted wrong');
  return sink.bytes();
}

/** Pushes a NAR in pieces of these lengths, the last of them again and again; gives its length. */
export function pushNar(nar: Uint8Array, visitor: NarVisitor, ...lengths: number[]): number {
  const reader = new NarReader(visitor);
  for (let at = 0; at < nar.length; ) {
    const length = (lengths.length > 1 ? lengths.shift() : lengths[0]) ?? nar.length;
    // In memory of its own, that is of no more use afterwards.
    const piece = Buffer.from(nar.subarray(at, at + length));
    reader.push(piece);
    piece.fill(0xaa);
    at += length;
  }
  return reader.end();
}

/** Reads a NAR and writes what was told: the bytes are the same, unless it was refused. */
export function rewriteNar(nar: Uint8Array, ...lengths: number[]): Buffer {
  const sink = new BufferSink();
  const writer = new NarWriter(sink);
  pushNar(nar, writer, ...lengths);
  writer.finish();
  return sink.bytes();
}

const files = fc
  .tuple(fc.uint8Array({ maxLength: 40 }), fc.boolean())
  .map(([contents, executable]) => file(contents, executable));
const links = fc
  .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 20 })
  .map((target) => symlink(Buffer.from(target).toString('latin1')));

/** Trees of all kinds of nodes, with any names and targets. */
export const trees: fc.Arbitrary<Tree> = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small' },
    files,
    links,
    fc
      .array(fc.tuple(names, tie('tree')), { maxLength: 4 })
      .map((entries) =>
        directory(
          Object.fromEntries(entries.map(([name, tree]) => [Buffer.from(name).toString('latin1'), tree])),
        ),
      ),
  ),
})).tree;
