import { Worker } from 'node:worker_threads';
import { startAhead } from '../castore/local/ahead/start.ts';
import { COUNTER } from '../fuse/counters.ts';
import type { FetchMessage, SessionMessage } from '../fuse/dispatcher.ts';
import { CONTROL } from '../fuse/dispatcher.ts';
import { StoreError } from '../util/errors.ts';
import { logSettings } from '../util/log.ts';
import { makeEventfd, raiseEventfd } from '../util/system/eventfd.ts';
import type { Server } from './hand-over.ts';
import type { ServeContext, ServeOptions } from './serve-store.ts';
import type { EnteredMessage, EnteredPath, UsedMessage } from './statistics.ts';
import type { AheadMessage, TransportName, WorkerData } from './worker.ts';

/** How long a thread may take to begin, in milliseconds. Its program could lie in the very mount that it is to serve. */
const START_MS = 60_000;
/** How long a stopping mount waits for its threads, in milliseconds. */
const STOP_MS = 500;
/** Messages with content that may wait until a sleeping thread is woken. */
const MAX_UNSEEN = 64;

/** A thread that serves the kernel. */
export class ServingThread implements Server {
  readonly control: Int32Array;
  readonly counters: Float64Array;
  /** Resolves when it has ended: with what made it fail, or nothing when it has left. */
  readonly ended: Promise<Error | undefined>;
  /** Store paths that were looked up through it. */
  readonly entered: EnteredPath[] = [];
  /** As the thread itself knows it. */
  readonly id: number;
  readonly #worker: Worker;
  readonly #wakeFd: number;
  /** Messages sent since the thread was woken last. */
  #unseen = 0;
  /** Hear that it is there. */
  readonly #asked: (() => void)[] = [];
  #hasEnded = false;

  private constructor(worker: Worker, data: WorkerData) {
    this.#worker = worker;
    this.id = worker.threadId;
    this.#wakeFd = data.wakeFd;
    this.control = new Int32Array(data.control);
    this.counters = new Float64Array(data.counters);
    let failure: Error | undefined;
    worker.on('error', (error: Error) => {
      failure = error;
    });
    this.ended = new Promise((resolve) =>
      worker.once('exit', (code) => {
        if (code !== 0 && !this.#isStopped) failure ??= new Error(`it ended with ${code}`);
        this.#hasEnded = true;
        // What waited for it has been answered by the kernel.
        this.counters.fill(0, COUNTER.WAITING, COUNTER.GUESTS + 1);
        resolve(failure);
      }),
    );
  }

  /** Resolves when the thread has opened the store. */
  static start(
    transport: TransportName,
    options: Pick<ServeOptions, 'listRoot' | 'showXattr' | 'owner'> & Pick<WorkerData, 'notifies'>,
    context: ServeContext,
  ): Promise<ServingThread> {
    const workerData: WorkerData = {
      transport,
      storeDir: context.env.dir,
      usageDir: context.usageDir,
      readOnly: context.env.isReadOnly,
      remote: context.remote,
      trustedKeys: context.trustedKeys,
      listRoot: options.listRoot,
      showXattr: options.showXattr,
      owner: options.owner,
      notifies: options.notifies,
      nodes: context.nodes,
      pinPath: context.pinPath,
      inodeBits: context.inodeBits,
      readLog: context.readLog,
      notesUse: context.onUsed !== undefined,
      control: new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT * CONTROL.LENGTH),
      counters: new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT * COUNTER.LENGTH),
      wakeFd: makeEventfd(),
      log: logSettings(),
    };
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData });
      const late = setTimeout(() => {
        reject(new StoreError('DEADLINE_EXCEEDED', 'a thread that is to serve the kernel does not begin'));
        void worker.terminate();
      }, START_MS);
      worker.once('error', reject);
      worker.once('exit', () => {
        clearTimeout(late);
        reject(new StoreError('INTERNAL', 'a thread that is to serve the kernel ended at once'));
      });
      worker.once('message', () => {
        clearTimeout(late);
        resolve(new ServingThread(worker, workerData));
      });
    });
  }

  /** Lets it serve the kernel on a descriptor, which must not block. */
  serve(fd: number, { handOver, onUsed }: Pick<ServeContext, 'handOver' | 'onUsed'>): void {
    handOver.add(this);
    this.#worker.on('message', (message: SessionMessage | EnteredMessage | UsedMessage | AheadMessage) => {
      if (message.type === 'entered') this.entered.push(message.path);
      else if (message.type === 'ahead') startAhead(message.memory);
      else if (message.type === 'used') onUsed?.(message.digests);
      else if (message.type === 'there') for (const hear of this.#asked.splice(0)) hear();
      else handOver.receive(this, message);
    });
    this.#worker.postMessage({ fd });
  }

  send(message: FetchMessage): void {
    this.#worker.postMessage(message);
    // Content alone can wait until the thread looks by itself, but must not pile up; somebody waits for the rest.
    this.#unseen = message.type === 'payload' ? this.#unseen + 1 : MAX_UNSEEN;
    if (this.#unseen < MAX_UNSEEN) Atomics.store(this.control, CONTROL.MESSAGES, 1);
    else {
      this.#unseen = 0;
      this.#wake(CONTROL.MESSAGES);
    }
  }

  /** Whether it says within so many milliseconds that it is there; one that has ended owes no answer. */
  responds(withinMs: number): Promise<boolean> {
    if (this.#hasEnded) return Promise.resolve(true);
    return new Promise((resolve) => {
      const late = setTimeout(() => resolve(false), withinMs).unref();
      this.#asked.push(() => {
        clearTimeout(late);
        resolve(true);
      });
      this.send({ type: 'ask' });
    });
  }

  /** Makes the thread leave; resolves when it has, or after a while. */
  async stop(): Promise<void> {
    this.#wake(CONTROL.STOP);
    const late = setTimeout(() => void this.#worker.terminate(), STOP_MS);
    await this.ended;
    clearTimeout(late);
  }

  get #isStopped(): boolean {
    return Atomics.load(this.control, CONTROL.STOP) !== 0;
  }

  #wake(word: number): void {
    Atomics.store(this.control, word, 1);
    raiseEventfd(this.#wakeFd);
  }
}

/** Whether all say within so many milliseconds that they are there. */
export async function allRespond(threads: readonly ServingThread[], withinMs: number): Promise<boolean> {
  const answers = await Promise.all(threads.map((thread) => thread.responds(withinMs)));
  return answers.every((isThere) => isThere);
}
