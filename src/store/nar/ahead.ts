import { anotherSize, SINGLE_CHUNK_LIMIT } from '../../castore/blob/service.ts';
import type { FileNode, Node } from '../../castore/node.ts';
import { collect } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { Contents } from '../services.ts';
import type { NarStep } from './steps.ts';
import { narSteps } from './steps.ts';

/** Small files are asked for ahead of their turn, for a store where each takes a round trip. */
const STEPS_AHEAD = 96;
const BYTES_AHEAD = 512 << 10;

/** A step; the contents of a small file are on their way, unless they can be read at once. */
export type StepAhead = NarStep & { contents?: Promise<Uint8Array> };

/** The steps of a tree, some of them ahead of their turn. */
export class StepsAhead {
  readonly #castore: Contents;
  readonly #walk: AsyncGenerator<NarStep[]>;
  readonly #mayFetch: () => boolean;
  readonly #signal: AbortSignal | undefined;
  #queue: StepAhead[] = [];
  #taken = 0;
  #bytes = 0;
  #ended = false;

  /** `mayFetch` tells whether contents are wanted yet. */
  constructor(castore: Contents, root: Node, mayFetch: () => boolean, signal: AbortSignal | undefined) {
    this.#castore = castore;
    this.#walk = narSteps(castore, root, signal);
    this.#mayFetch = mayFetch;
    this.#signal = signal;
  }

  get #isShort(): boolean {
    const steps = this.#castore.blobs.readAtOnce ? 1 : STEPS_AHEAD;
    return this.#queue.length - this.#taken < steps && this.#bytes < BYTES_AHEAD;
  }

  /** Whether `fill` is due. */
  get isLow(): boolean {
    return !this.#ended && this.#isShort;
  }

  async fill(): Promise<void> {
    this.#queue = this.#queue.slice(this.#taken);
    this.#taken = 0;
    while (this.isLow) {
      const { value, done } = await this.#walk.next();
      if (done) this.#ended = true;
      else for (const step of value) this.#add(step);
    }
  }

  #add(step: StepAhead): void {
    const isFile = step.kind === 'file' && !this.#castore.blobs.readAtOnce;
    if (isFile && step.node.size <= SINGLE_CHUNK_LIMIT && this.#mayFetch()) {
      step.contents = this.#small(step.node);
      step.contents.catch(() => {});
      this.#bytes += Number(step.node.size);
    }
    this.#queue.push(step);
  }

  async #small(node: FileNode): Promise<Uint8Array> {
    const size = Number(node.size);
    const contents = await this.#castore.blobs.read(node.digest, { size, signal: this.#signal });
    if (!contents) throw damaged(`blob ${node.digest} is missing`);
    const bytes = await collect(contents, size);
    if (bytes?.length !== size) throw anotherSize(node);
    return bytes;
  }

  /** The next step; `undefined` at the end. */
  next(): StepAhead | undefined {
    const step = this.#queue[this.#taken++];
    if (step?.kind === 'file' && step.contents) this.#bytes -= Number(step.node.size);
    return step;
  }
}
