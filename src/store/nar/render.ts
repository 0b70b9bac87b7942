import { anotherSize, SINGLE_CHUNK_LIMIT } from '../../castore/blob/service.ts';
import type { FileNode, Node } from '../../castore/node.ts';
import type { NarSink } from '../../nix/nar/writer.ts';
import { NarWriter, STAGE_LENGTH } from '../../nix/nar/writer.ts';
import { damaged } from '../../util/errors.ts';
import { Scratch } from '../../util/scratch.ts';
import type { Contents } from '../services.ts';
import { StepsAhead } from './ahead.ts';
import type { NarStep } from './steps.ts';

export interface RenderOptions {
  /** Where to begin and to end, in bytes of the NAR; contents outside are not read. */
  readonly start?: number;
  readonly end?: number;
  /** Whether a part may be overwritten when the next is asked for: spares an allocation a part. */
  readonly transient?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The NAR of a tree in the store, or a part of it, in pieces as they come. Memory does not grow with the
 * tree. Throws DATA_LOSS when a part of it is missing or has another size than it should.
 */
export async function* renderNar(
  castore: Contents,
  root: Node,
  { start = 0, end = Number.MAX_SAFE_INTEGER, transient = false, signal }: RenderOptions = {},
): AsyncGenerator<Uint8Array> {
  const window = new Window(start, end, transient);
  const scratch = transient ? new Scratch() : undefined;
  const nar = new NarWriter(window);
  const ahead = new StepsAhead(castore, root, () => nar.size >= start, signal);
  for (;;) {
    if (ahead.isLow) await ahead.fill();
    const step = ahead.next();
    if (!step) break;
    if (step.kind !== 'file') writeStep(nar, step);
    else {
      const size = Number(step.node.size);
      nar.beginFile(size, step.node.executable);
      // Nothing is read of a file before the beginning, nor of one behind the end.
      const from = Math.min(size, Math.max(0, start - nar.size));
      nar.skipContents(from);
      if (from === size || nar.size >= end) {
        // Nothing of it is wanted.
      } else if (step.contents) nar.contents((await step.contents).subarray(from));
      else if (castore.blobs.readAtOnce && size <= SINGLE_CHUNK_LIMIT) {
        const bytes = castore.blobs.readAtOnce(step.node.digest, size, scratch);
        if (bytes?.length !== size) throw bytes ? anotherSize(step.node) : missing(step.node);
        nar.contents(bytes.subarray(from));
      } else {
        for await (const part of contentsOf(castore, step.node, { offset: from, scratch, signal })) {
          nar.contents(part);
          if (window.isFull) yield* window.take();
          if (nar.size >= end) break;
        }
      }
      if (window.isFull) yield* window.take();
      if (nar.size < end) nar.endFile();
    }
    if (window.isFull) yield* window.take();
    if (nar.size >= end) break;
  }
  nar.finish();
  yield* window.take();
}

/** Writes anything but a file. */
export function writeStep(nar: NarWriter, step: Exclude<NarStep, { kind: 'file' }>): void {
  if (step.kind === 'entry') nar.beginEntry(step.name);
  else if (step.kind === 'symlink') nar.symlink(step.target);
  else nar[step.kind]();
}

function missing(node: FileNode): Error {
  return damaged(`blob ${node.digest} is missing`);
}

async function* contentsOf(
  { blobs }: Contents,
  node: FileNode,
  options: { offset: number; scratch: Scratch | undefined; signal: AbortSignal | undefined },
) {
  const size = Number(node.size);
  const contents = await blobs.read(node.digest, { ...options, size });
  if (!contents) throw missing(node);
  let left = size - options.offset;
  for await (const part of contents) {
    left -= part.length;
    if (left < 0) throw anotherSize(node);
    yield part;
  }
  if (left !== 0) throw anotherSize(node);
}

/** Stages in use at once: two that are full, with what comes before the contents of a file and those, and one more. */
const STAGES = 3;

function newStage(): Buffer {
  return Buffer.allocUnsafeSlow(STAGE_LENGTH);
}

/** Keeps what lies within a range, until it is taken. */
class Window implements NarSink {
  /** Bytes of the NAR that have gone by. */
  #position = 0;
  readonly #start: number;
  readonly #end: number;
  #parts: Uint8Array[] = [];
  readonly #stages: Buffer[] | undefined;
  #staged = 0;

  constructor(start: number, end: number, transient: boolean) {
    this.#start = start;
    this.#end = end;
    if (transient) this.#stages = Array.from({ length: STAGES }, newStage);
  }

  get isFull(): boolean {
    return this.#parts.length > 0;
  }

  update(bytes: Uint8Array): void {
    const from = Math.max(0, this.#start - this.#position);
    const to = Math.min(bytes.length, this.#end - this.#position);
    this.#position += bytes.length;
    if (from < to) this.#parts.push(bytes.subarray(from, to));
  }

  nextStage(): Buffer {
    return this.#stages ? this.#stages[this.#staged++ % STAGES]! : newStage();
  }

  skip(length: number): void {
    this.#position += length;
  }

  take(): Uint8Array[] {
    const parts = this.#parts;
    this.#parts = [];
    return parts;
  }
}
