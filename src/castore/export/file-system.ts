import { closeSync, fchmodSync, futimesSync, writeSync } from 'node:fs';
import { Turns } from '../../util/async/turns.ts';
import { printable } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { OpenDirectory } from '../../util/system/open-directory.ts';
import { writeFailure } from '../../util/system/whole-file.ts';
import { SINGLE_CHUNK_LIMIT } from '../blob/service.ts';
import { MTIME, PERMISSIONS } from '../canonical.ts';
import type { Directory } from '../directory.ts';
import type { TreeObserver } from '../import/observer.ts';
import type { FileNode, Node } from '../node.ts';
import type { HardLinks, TreePlace } from './hard-links.ts';
import type { TreeSource } from './source.ts';

/** Progress of an export. */
export interface ExportProgress {
  entries: number;
  /** Bytes of file contents. */
  bytes: number;
}

export interface ExportOptions {
  /** Sees the tree as it is written. */
  readonly observer?: TreeObserver;
  /** Where equal files may be links to each other. */
  readonly hardLinks?: HardLinks | undefined;
  readonly progress?: ExportProgress | undefined;
  readonly onProgress?: (() => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** The path at which the tree will be, for errors. */
  readonly path?: string | undefined;
}

const MAX_SHOWN = 300;
const SLASH = Buffer.from('/');

/**
 * Writes a tree as files, directories and links with the modes and times that Nix gives them. There must be
 * nothing in its place. Every directory is made by this and held open, and no link is followed, so whatever
 * the tree says, it stays in its place. A failure leaves what was written so far.
 */
export async function exportTree(
  root: Node,
  place: TreePlace,
  source: TreeSource,
  options: ExportOptions = {},
): Promise<void> {
  await new Exporter(place, source, options).run(root);
}

/** A directory that is being written. */
interface Frame {
  readonly name: Uint8Array;
  readonly directory: Directory;
  readonly output: OpenDirectory;
  next: number;
}

/** A file that is being written. */
interface Output {
  readonly file: FileNode;
  readonly name: Uint8Array;
  /** Undefined when the file is a link to one that has been written. */
  readonly fd: number | undefined;
  written: number;
}

class Exporter {
  readonly #place: TreePlace;
  readonly #source: TreeSource;
  readonly #options: ExportOptions;
  readonly #stack: Frame[] = [];
  readonly #turns: Turns;

  constructor(place: TreePlace, source: TreeSource, options: ExportOptions) {
    this.#place = place;
    this.#source = source;
    this.#options = options;
    this.#turns = new Turns(options.signal);
  }

  async run(root: Node): Promise<void> {
    try {
      await this.#visit(root, Buffer.from(this.#place.name));
      for (let frame = this.#stack.at(-1); frame; frame = this.#stack.at(-1)) {
        // What has to be waited for is a promise; nearly all of a local store is done at once.
        const visit = this.#visitNext(frame);
        if (visit) await visit;
        if (this.#turns.isDue) await this.#turns.take();
      }
    } finally {
      for (const { output } of this.#stack) output.close();
    }
  }

  #visitNext(frame: Frame): Promise<void> | undefined {
    const { observer } = this.#options;
    if (frame.next > 0) observer?.endEntry();
    if (frame.next === frame.directory.length) {
      this.#finishDirectory(frame);
      return undefined;
    }
    const name = frame.directory.name(frame.next);
    observer?.beginEntry(name);
    return this.#visit(frame.directory.node(frame.next++), name);
  }

  #visit(node: Node, name: Uint8Array): Promise<void> | undefined {
    const { observer, progress, onProgress } = this.#options;
    if (progress) progress.entries++;
    onProgress?.();
    if (node.kind === 'file') return this.#file(node, name);
    if (node.kind === 'directory') {
      const directory = this.#source.directory(node.digest);
      if (directory instanceof Promise) return directory.then((found) => this.#beginDirectory(found, name));
      this.#beginDirectory(directory, name);
      return undefined;
    }
    this.#attempt(name, (parent) => parent.makeSymlink(name, node.target, MTIME));
    observer?.symlink(node.target);
    return undefined;
  }

  #beginDirectory(directory: Directory, name: Uint8Array): void {
    const output = this.#attempt(name, (parent) => parent.makeDirectory(name, 0o700));
    this.#stack.push({ name, directory, output, next: 0 });
    this.#options.observer?.beginDirectory();
  }

  #finishDirectory({ output, name }: Frame): void {
    this.#stack.pop();
    try {
      this.#attempt(name, () => output.setModeAndTime(PERMISSIONS.directory, MTIME));
    } finally {
      output.close();
    }
    this.#options.observer?.endDirectory();
  }

  #file(file: FileNode, name: Uint8Array): Promise<void> | undefined {
    const contents = this.#source.contents(file);
    if (contents instanceof Promise || file.size > SINGLE_CHUNK_LIMIT)
      return this.#slowFile(file, name, contents);
    const output = this.#beginFile(file, name);
    try {
      for (const part of contents) this.#write(part, output);
      this.#finishFile(output);
    } finally {
      if (output.fd !== undefined) closeSync(output.fd);
    }
    return undefined;
  }

  async #slowFile(
    file: FileNode,
    name: Uint8Array,
    contents: ReturnType<TreeSource['contents']>,
  ): Promise<void> {
    const output = this.#beginFile(file, name);
    try {
      for await (const part of await contents) {
        this.#write(part, output);
        if (this.#turns.isDue) await this.#turns.take();
      }
      this.#finishFile(output);
    } finally {
      if (output.fd !== undefined) closeSync(output.fd);
    }
  }

  #beginFile(file: FileNode, name: Uint8Array): Output {
    const { observer, hardLinks } = this.#options;
    observer?.beginFile(Number(file.size), file.executable);
    const fd = this.#attempt(name, (parent) =>
      hardLinks?.link(file, parent, name) ? undefined : parent.makeFile(name, 0o600),
    );
    return { file, name, fd, written: 0 };
  }

  #write(part: Uint8Array, output: Output): void {
    const { observer, progress, onProgress } = this.#options;
    const { fd, file, name } = output;
    output.written += part.length;
    if (output.written > file.size) throw damaged(`blob ${file.digest} is longer than ${file.size} bytes`);
    observer?.contents(part);
    if (fd !== undefined) {
      this.#attempt(name, () => {
        for (let at = 0; at < part.length; ) at += writeSync(fd, part, at, part.length - at);
      });
    }
    if (progress) progress.bytes += part.length;
    onProgress?.();
  }

  #finishFile({ file, name, fd, written }: Output): void {
    if (BigInt(written) !== file.size)
      throw damaged(`blob ${file.digest} is shorter than ${file.size} bytes`);
    if (fd !== undefined) {
      this.#attempt(name, () => {
        futimesSync(fd, MTIME, MTIME);
        fchmodSync(fd, file.executable ? PERMISSIONS.executable : PERMISSIONS.file);
      });
      this.#options.hardLinks?.written(file, this.#place, this.#pathOf(name));
    }
    this.#options.observer?.endFile();
  }

  /** Does something with a name in the directory that is being written; a failure tells where. */
  #attempt<T>(name: Uint8Array, work: (parent: OpenDirectory) => T): T {
    try {
      return work(this.#stack.at(-1)?.output ?? this.#place.parent);
    } catch (error) {
      throw writeFailure(shown(this.#options.path ?? 'the tree', this.#pathOf(name)), error);
    }
  }

  /** The path to a name in the directory that is being written, from the tree's place. */
  #pathOf(name: Uint8Array): Buffer {
    const names = [...this.#stack.map((frame) => frame.name), name].slice(1);
    return Buffer.concat(names.flatMap((one) => [SLASH, one]));
  }
}

/** For a message: a path may be as long as it likes. */
function shown(tree: string, path: Buffer): string {
  const text = `${tree}${printable(path)}`;
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}
