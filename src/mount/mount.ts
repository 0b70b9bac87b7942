import { openSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { CacheFiller } from "../castore/local/filler.ts";
import { LocalStore } from "../castore/local/store.ts";
import { NodeTable } from "../fs/node-table.ts";
import type { FetchMessage, SessionMessage } from "../fuse/device-session.ts";
import { CONTROL } from "../fuse/device-session.ts";
import { negotiate } from "../fuse/init.ts";
import type { Mounted } from "../fuse/mounting.ts";
import { mountDevice, prepareMountPoint, raiseReadAhead } from "../fuse/mounting.ts";
import type { Store } from "../store/store.ts";
import { StoreError } from "../util/errors.ts";
import { addressOf, errno, errnoName, libc } from "../util/libc.ts";
import { currentLogLevel, log } from "../util/log.ts";
import { Fetcher } from "./fetcher.ts";
import type { Server } from "./hand-over.ts";
import { HandOver } from "./hand-over.ts";
import { watchRoot } from "./root-watch.ts";
import type { WorkerData } from "./worker.ts";

/** Nodes the kernel may know at once: 64 bytes each once used, 1 GiB of address space. */
const NODE_CAPACITY = 1 << 24;
/** How long a stopping mount waits for its threads, in milliseconds. */
const STOP_MS = 500;
const F_SETFL = 4;
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const EFD_NONBLOCK = O_NONBLOCK;
const FUSE_DEV_IOC_CLONE = 0x8004e500;

export interface MountOptions {
  readonly mountPoint: string;
  readonly store: Store;
  /** Where to keep what is fetched, if the store is not local. */
  readonly cacheDir: string;
  readonly listRoot: boolean;
  readonly showXattr: boolean;
  readonly allowOther: boolean;
  /** Threads that serve the kernel. */
  readonly readers: number;
  /** A read fails after this long without content, in milliseconds. */
  readonly timeoutMs: number;
}

/** A running mount. */
export interface Mount {
  readonly mountPoint: string;
  /** Unmounts; resolves when the kernel is no longer served. */
  stop(): Promise<void>;
  /** Resolves when the file system has been unmounted, by `stop` or by somebody else. */
  readonly closed: Promise<void>;
  statistics(): MountStatistics;
}

export interface MountStatistics {
  /** Requests of the kernel, by opcode. */
  readonly requests: ReadonlyMap<number, number>;
  /** Bytes of file contents that the kernel asked for. */
  readonly bytesRead: number;
  /** Nodes in use. */
  readonly nodes: number;
}

/** Mounts a store through the kernel's own protocol. */
export async function mountStore(options: MountOptions): Promise<Mount> {
  const mountPoint = prepareMountPoint(options.mountPoint);
  const { store } = options;
  const local = store.local ?? LocalStore.open(options.cacheDir, "cache");
  const filler = store.local ? undefined : new CacheFiller(local.env);
  const nodes = NodeTable.allocate(NODE_CAPACITY);

  const handOver: HandOver = new HandOver({
    timeoutMs: options.timeoutMs,
    fetch: (need, signal) => fetcher!.fetch(need, signal),
  });
  const fetcher =
    filler &&
    new Fetcher(
      store,
      local,
      filler,
      (items) => handOver.deliver(items),
      (items) => handOver.settled(items),
    );

  const workers = await Promise.all(
    Array.from({ length: options.readers }, () =>
      ServingThread.start({
        storeDir: local.env.dir,
        remote: fetcher !== undefined,
        listRoot: options.listRoot,
        showXattr: options.showXattr,
        nodes,
        control: new SharedArrayBuffer(4 * CONTROL.LENGTH),
        wakeFd: libc.eventfd(0, EFD_NONBLOCK),
        logLevel: currentLogLevel(),
      }),
    ),
  );
  let mounted: Mounted;
  try {
    mounted = mountDevice(mountPoint, options);
  } catch (error) {
    await Promise.all(workers.map((worker) => worker.stop()));
    throw error;
  }
  try {
    negotiate(mounted.fd);
    raiseReadAhead(mountPoint);
    for (const [i, worker] of workers.entries()) {
      handOver.add(worker);
      worker.serve(i === 0 ? mounted.fd : cloneDevice(mounted.fd), (message) =>
        handOver.receive(worker, message),
      );
    }
  } catch (error) {
    mounted.unmount();
    throw error;
  }
  const watch = options.listRoot ? watchRoot(local.env, mounted.fd) : undefined;

  const closed = Promise.all(workers.map((worker) => worker.ended)).then(async () => {
    watch?.close();
    filler?.close();
    if (!store.local) await local.close();
  });
  return {
    mountPoint,
    closed,
    async stop() {
      mounted.unmount();
      await Promise.all(workers.map((worker) => worker.stop()));
      await closed;
    },
    statistics: () => {
      const requests = new Map<number, number>();
      let bytesRead = 0;
      for (const { control } of workers) {
        bytesRead += control[CONTROL.READ_KIB]! * 1024;
        for (let opcode = 0; opcode < 64; opcode++) {
          const count = control[CONTROL.REQUESTS + opcode]!;
          if (count > 0) requests.set(opcode, (requests.get(opcode) ?? 0) + count);
        }
      }
      return { requests, bytesRead, nodes: new NodeTable(nodes).size };
    },
  };
}

/** A thread that serves the kernel. */
class ServingThread implements Server {
  readonly control: Int32Array;
  readonly ended: Promise<void>;
  readonly #worker: Worker;
  readonly #wakeFd: number;

  private constructor(worker: Worker, data: WorkerData) {
    this.#worker = worker;
    this.#wakeFd = data.wakeFd;
    this.control = new Int32Array(data.control);
    this.ended = new Promise((resolve) => worker.once("exit", () => resolve()));
  }

  /** Resolves when the thread has opened the store. */
  static start(data: WorkerData): Promise<ServingThread> {
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL("./worker.js", import.meta.url), { workerData: data });
      worker.once("error", reject);
      worker.once("message", () => resolve(new ServingThread(worker, data)));
    });
  }

  serve(fd: number, onMessage: (message: SessionMessage) => void): void {
    libc.fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    this.#worker.on("message", onMessage);
    this.#worker.on("error", (error) => log.error("a serving thread failed", { error: String(error) }));
    this.#worker.postMessage({ fd });
  }

  send(message: FetchMessage): void {
    this.#worker.postMessage(message);
    this.#wake(CONTROL.MESSAGES);
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
  const clone = openSync("/dev/fuse", "r+");
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(fd);
  if (libc.ioctl(clone, FUSE_DEV_IOC_CLONE, argument) !== 0) {
    throw new StoreError("INTERNAL", `cannot add a reader: ${errnoName(errno())}`);
  }
  return clone;
}
