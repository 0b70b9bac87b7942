import { SINGLE_CHUNK_LIMIT } from '../../castore/blob/service.ts';
import type { FileNode, Node } from '../../castore/node.ts';
import type { NarSink } from '../../nix/nar/writer.ts';
import { NarWriter, STAGE_LENGTH } from '../../nix/nar/writer.ts';
import { collect } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { Services } from '../services.ts';
import type { NarStep } from './steps.ts';
import { narSteps } from './steps.ts';

/** Small files are asked for ahead of their turn, for a store where each takes a round trip. */
const STEPS_AHEAD = 96;
const BYTES_AHEAD = 2 << 20;

export interface RenderOptions {
  /** Where to begin and to end, in bytes of the NAR; contents outside are not read. */
  readonly start?: number;
  readonly end?: number;
  readonly signal?: AbortSignal | undefined;
}

type Castore = Pick<Services, 'blobs' | 'directories'>;

/**
 * The NAR of a tree in the store, or a part of it, in pieces as they come. Memory does not grow with the
 * tree. Throws DATA_LOSS when a part of it is missing or has another size than it should.
 */
export async function* renderNar(
  castore: Castore,
  root: Node,
  { start = 0, end = Number.MAX_SAFE_INTEGER, signal }: RenderOptions = {},
): AsyncGenerator<Uint8Array> {
  const window = new Window(start, end);
  const nar = new NarWriter(window);
  for await (const step of withContents(castore, root, () => nar.size >= start, signal)) {
    if (step.kind !== 'file') writeStep(nar, step);
    else {
      const size = Number(step.node.size);
      nar.beginFile(size, step.node.executable);
      // Nothing of a file before the beginning is read, and of one behind the end neither.
      const from = Math.min(size, Math.max(0, start - nar.size));
      nar.skipContents(from);
      if (from === size || nar.size >= end) {
        // Nothing of it is wanted.
      } else if (step.contents) nar.contents((await step.contents).subarray(from));
      else {
        for await (const part of contentsOf(castore, step.node, from, signal)) {
          nar.contents(part);
          if (window.isFull) yield* window.take();
          if (nar.size >= end) break;
        }
      }
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

type Step = NarStep & { contents?: Promise<Uint8Array> };

/** The steps of a tree; once the range has begun, small files are on their way when their turn comes. */
async function* withContents(
  castore: Castore,
  root: Node,
  hasBegun: () => boolean,
  signal: AbortSignal | undefined,
): AsyncGenerator<Step> {
  const walk = narSteps(castore, root, signal);
  const queue: Step[] = [];
  let ahead = 0;
  for (let ended = false; ; ) {
    while (!ended && queue.length < STEPS_AHEAD && ahead < BYTES_AHEAD) {
      const { value, done } = await walk.next();
      if (done) {
        ended = true;
        break;
      }
      const step: Step = value;
      if (step.kind === 'file' && step.node.size <= SINGLE_CHUNK_LIMIT && hasBegun()) {
        step.contents = small(castore, step.node, signal);
        step.contents.catch(() => {});
        ahead += Number(step.node.size);
      }
      queue.push(step);
    }
    const step = queue.shift();
    if (!step) return;
    if (step.kind === 'file' && step.contents) ahead -= Number(step.node.size);
    yield step;
  }
}

async function small({ blobs }: Castore, node: FileNode, signal: AbortSignal | undefined) {
  const size = Number(node.size);
  const contents = await blobs.read(node.digest, { size, signal });
  if (!contents) throw damaged(`blob ${node.digest} is missing`);
  const bytes = await collect(contents, size);
  if (bytes?.length !== size) throw anotherSize(node);
  return bytes;
}

async function* contentsOf(
  { blobs }: Castore,
  node: FileNode,
  from: number,
  signal: AbortSignal | undefined,
) {
  const size = Number(node.size);
  const contents = await blobs.read(node.digest, { offset: from, size, signal });
  if (!contents) throw damaged(`blob ${node.digest} is missing`);
  let left = size - from;
  for await (const part of contents) {
    left -= part.length;
    if (left < 0) throw anotherSize(node);
    yield part;
  }
  if (left !== 0) throw anotherSize(node);
}

export function anotherSize(node: FileNode): Error {
  return damaged(`blob ${node.digest} has another size than ${node.size}`);
}

/** Keeps what lies within a range, until it is taken. */
class Window implements NarSink {
  /** Bytes of the NAR that have gone by. */
  #position = 0;
  readonly #start: number;
  readonly #end: number;
  #parts: Uint8Array[] = [];

  constructor(start: number, end: number) {
    this.#start = start;
    this.#end = end;
  }

  get isFull(): boolean {
    return this.#parts.length > 0;
  }

  update(bytes: Uint8Array): void {
    const from = Math.max(0, this.#start - this.#position);
    const to = Math.min(bytes.length, this.#end - this.#position);
    this.#position += bytes.length;
    if (from >= to) return;
    const part = bytes.subarray(from, to);
    // The writer uses its stage again; what is longer than that never lay in it.
    this.#parts.push(bytes.length > STAGE_LENGTH ? part : Buffer.from(part));
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
