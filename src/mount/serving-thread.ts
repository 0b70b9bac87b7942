import { Worker } from 'node:worker_threads';
import { NodeTable } from '../fs/node-table.ts';
import type { FetchMessage, SessionMessage } from '../fuse/dispatcher.ts';
import { CONTROL } from '../fuse/dispatcher.ts';
import { opcodeName } from '../fuse/opcodes.ts';
import { currentLogLevel, log } from '../util/log.ts';
import { makeEventfd, raiseEventfd } from '../util/system/eventfd.ts';
import type { Server } from './hand-over.ts';
import type { ServeContext, ServeOptions } from './serve-store.ts';
import type { EnteredMessage, EnteredPath, MountStatistics, UsedMessage } from './statistics.ts';
import type { TransportName, WorkerData } from './worker.ts';

/** How long a stopping mount waits for its threads, in milliseconds. */
const STOP_MS = 500;
/** Messages with content that may wait until a sleeping thread is woken. */
const MAX_UNSEEN = 64;

/** A thread that serves the kernel. */
export class ServingThread implements Server {
  readonly control: Int32Array;
  readonly ended: Promise<void>;
  /** Store paths that were looked up through it. */
  readonly entered: EnteredPath[] = [];
  readonly #worker: Worker;
  readonly #wakeFd: number;
  /** Messages sent since the thread was woken last. */
  #unseen = 0;

  private constructor(worker: Worker, data: WorkerData) {
    this.#worker = worker;
    this.#wakeFd = data.wakeFd;
    this.control = new Int32Array(data.control);
    this.ended = new Promise((resolve) => worker.once('exit', () => resolve()));
  }

  /** Resolves when the thread has opened the store. */
  static start(
    transport: TransportName,
    options: Pick<ServeOptions, 'listRoot' | 'showXattr' | 'owner'>,
    context: ServeContext,
  ): Promise<ServingThread> {
    const workerData: WorkerData = {
      transport,
      storeDir: context.env.dir,
      readOnly: context.env.isReadOnly,
      remote: context.remote,
      listRoot: options.listRoot,
      showXattr: options.showXattr,
      owner: options.owner,
      nodes: context.nodes,
      pinPath: context.pinPath,
      notesUse: context.onUsed !== undefined,
      control: new SharedArrayBuffer(4 * CONTROL.LENGTH),
      wakeFd: makeEventfd(),
      logLevel: currentLogLevel(),
    };
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData });
      worker.once('error', reject);
      worker.once('message', () => resolve(new ServingThread(worker, workerData)));
    });
  }

  /** Lets it serve the kernel on a descriptor, which must not block. */
  serve(fd: number, { handOver, onUsed }: Pick<ServeContext, 'handOver' | 'onUsed'>): void {
    handOver.add(this);
    this.#worker.on('message', (message: SessionMessage | EnteredMessage | UsedMessage) => {
      if (message.type === 'entered') this.entered.push(message.path);
      else if (message.type === 'used') onUsed?.(message.digests);
      else handOver.receive(this, message);
    });
    this.#worker.on('error', (error) => log.error('a serving thread failed', { error: String(error) }));
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

  /** Makes the thread leave; resolves when it has, or after a while. */
  async stop(): Promise<void> {
    this.#wake(CONTROL.STOP);
    const late = setTimeout(() => void this.#worker.terminate(), STOP_MS);
    await this.ended;
    clearTimeout(late);
  }

  #wake(word: number): void {
    Atomics.store(this.control, word, 1);
    raiseEventfd(this.#wakeFd);
  }
}

/** Sums up the statistics of the threads that serve one kernel. */
export function statisticsOf(
  threads: readonly ServingThread[],
  { nodes }: Pick<ServeContext, 'nodes'>,
): MountStatistics {
  const requests = new Map<string, number>();
  const entered = new Map<string, EnteredPath>();
  const sum = (word: number) => threads.reduce((total, { control }) => total + control[word]!, 0);
  for (const { control, entered: paths } of threads) {
    for (const path of paths) entered.set(path.name, path);
    const add = (name: string, count: number) => {
      if (count > 0) requests.set(name, (requests.get(name) ?? 0) + count);
    };
    for (let opcode = 0; CONTROL.REQUESTS + opcode < CONTROL.LENGTH; opcode++) {
      add(opcodeName(opcode), control[CONTROL.REQUESTS + opcode]!);
    }
    add('other', control[CONTROL.OTHER_REQUESTS]!);
  }
  return {
    requests,
    misses: sum(CONTROL.PARKED),
    bytesRead: sum(CONTROL.READ_KIB) * 1024,
    filesRead: sum(CONTROL.FILES),
    nodes: new NodeTable(nodes).size,
    entered: [...entered.values()],
  };
}
