import { openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { NodeTable } from '../fs/node-table.ts';
import type { FetchMessage, SessionMessage } from '../fuse/device-session.ts';
import { CONTROL } from '../fuse/device-session.ts';
import { negotiate } from '../fuse/init.ts';
import type { Mounted } from '../fuse/mounting.ts';
import { mountDevice, raiseReadAhead } from '../fuse/mounting.ts';
import { invalidateNode } from '../fuse/notify.ts';
import { StoreError } from '../util/errors.ts';
import { addressOf, errno, errnoName, libc } from '../util/libc.ts';
import { currentLogLevel, log } from '../util/log.ts';
import type { Driver } from './driver.ts';
import type { HandOver, Server } from './hand-over.ts';
import { watchRoot } from './root-watch.ts';
import type { Closure, EnteredMessage, MountStatistics } from './statistics.ts';
import type { WorkerData } from './worker.ts';

/** How long a stopping mount waits for its threads, in milliseconds. */
const STOP_MS = 500;
/** Messages with content that a sleeping thread is left with. */
const MAX_UNSEEN = 64;
const F_SETFL = 4;
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const EFD_NONBLOCK = O_NONBLOCK;
const FUSE_DEV_IOC_CLONE = 0x8004e500;

/** Speaks the kernel's own protocol on `/dev/fuse`, in threads of its own. */
export const kernelDriver: Driver = async (options, context) => {
  const workers = await Promise.all(
    Array.from({ length: options.readers }, () =>
      ServingThread.start({
        storeDir: context.env.dir,
        remote: context.remote,
        listRoot: options.listRoot,
        showXattr: options.showXattr,
        nodes: context.nodes,
        control: new SharedArrayBuffer(4 * CONTROL.LENGTH),
        wakeFd: libc.eventfd(0, EFD_NONBLOCK),
        logLevel: currentLogLevel(),
      }),
    ),
  );
  const stopThreads = () => Promise.all(workers.map((worker) => worker.stop()));
  let mounted: Mounted | undefined;
  try {
    mounted = mountDevice(context.mountPoint, options);
    negotiate(mounted.fd);
    raiseReadAhead(context.mountPoint);
    serve(workers, mounted.fd, context.handOver);
    context.handOver.add(revoker(mounted.fd, new NodeTable(context.nodes)));
  } catch (error) {
    mounted?.unmount();
    await stopThreads();
    throw error;
  }
  const { fd, unmount } = mounted;
  const watch = options.listRoot ? watchRoot(context.env, fd) : undefined;
  return {
    closed: Promise.all(workers.map((worker) => worker.ended)).then(() => {
      watch?.close();
      // Whoever forces the unmounting of a busy mount cuts us off, but leaves it standing.
      unmount();
    }),
    async stop() {
      unmount();
      await stopThreads();
    },
    statistics: () => statistics(workers, context.nodes),
  };
};

function serve(workers: readonly ServingThread[], fd: number, handOver: HandOver): void {
  for (const [i, worker] of workers.entries()) {
    handOver.add(worker);
    worker.serve(i === 0 ? fd : cloneDevice(fd), (message) => handOver.receive(worker, message));
  }
}

/** Takes part in the hand-over only to make the kernel forget what turned out to be wrong. */
function revoker(fd: number, nodes: NodeTable): Server {
  return {
    send: () => {},
    revoke: (blob) => {
      for (const id of nodes.filesOf(blob)) invalidateNode(fd, id);
    },
  };
}

function statistics(workers: readonly ServingThread[], nodes: SharedArrayBuffer): MountStatistics {
  const requests = new Map<number, number>();
  const entered = new Map<string, Closure>();
  const sum = (word: number) => workers.reduce((total, { control }) => total + control[word]!, 0);
  for (const { control, closures } of workers) {
    for (const closure of closures) entered.set(closure.name, closure);
    for (let opcode = 0; opcode < 64; opcode++) {
      const count = control[CONTROL.REQUESTS + opcode]!;
      if (count > 0) requests.set(opcode, (requests.get(opcode) ?? 0) + count);
    }
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

/** A thread that serves the kernel. */
class ServingThread implements Server {
  readonly control: Int32Array;
  readonly ended: Promise<void>;
  /** Store paths that were looked up through it. */
  readonly closures: Closure[] = [];
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
  static start(data: WorkerData): Promise<ServingThread> {
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: data });
      worker.once('error', reject);
      worker.once('message', () => resolve(new ServingThread(worker, data)));
    });
  }

  serve(fd: number, onMessage: (message: SessionMessage) => void): void {
    libc.fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    this.#worker.on('message', (message: SessionMessage | EnteredMessage) => {
      if (message.type === 'entered') this.closures.push(message.closure);
      else onMessage(message);
    });
    this.#worker.on('error', (error) => log.error('a serving thread failed', { error: String(error) }));
    this.#worker.postMessage({ fd });
  }

  send(message: FetchMessage): void {
    this.#worker.postMessage(message);
    // Content alone can wait until the thread comes by, but not heap up; somebody waits for the rest.
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
    libc.write(this.#wakeFd, ONE_ADDRESS, ONE.length);
  }
}

/** What an eventfd is woken with. */
const ONE = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);
const ONE_ADDRESS = addressOf(ONE);

/** Another descriptor of the same mount, with a queue of its own for what it has taken. */
function cloneDevice(fd: number): number {
  const clone = openSync('/dev/fuse', 'r+');
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(fd);
  if (libc.ioctl(clone, FUSE_DEV_IOC_CLONE, argument) !== 0) {
    throw new StoreError('INTERNAL', `cannot add a reader: ${errnoName(errno())}`);
  }
  return clone;
}
