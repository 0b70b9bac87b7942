import { closeSync, openSync } from 'node:fs';
import { NodeTable } from '../fs/node-table.ts';
import { messageOf, StoreError, systemCode } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { errno, errnoName, libc, setNonBlocking } from '../util/system/libc.ts';
import type { ServeContext } from './serve-store.ts';
import type { ServingThread } from './serving-thread.ts';

const FUSE_DEV_IOC_CLONE = 0x8004e500;
/** So many threads in a row, each failing within this time in milliseconds of the one before, are enough. */
const MAX_FAILURES = 5;
const IN_A_ROW_MS = 60_000;

/**
 * The threads that serve one FUSE device. Each has a descriptor of its own, by which the kernel knows the requests
 * that it has taken. When a thread fails, that is closed: those requests end with an error, so that one which makes
 * threads fail does not come again, and another thread takes its place.
 */
export class Readers {
  /** Resolves when the file system has been unmounted; rejects when it cannot be served any longer. */
  readonly closed: Promise<void>;
  /** All that have ever served: what they counted counts. */
  readonly threads: ServingThread[];
  readonly #device: number;
  readonly #start: () => Promise<ServingThread>;
  readonly #context: ServeContext;
  #failures = 0;
  #failedAt = 0;

  constructor(
    device: number,
    threads: readonly ServingThread[],
    start: () => Promise<ServingThread>,
    context: ServeContext,
  ) {
    this.#device = device;
    this.threads = [...threads];
    this.#start = start;
    this.#context = context;
    // All are opened before any serves: what fails here has no consequences.
    const descriptors = threads.map(() => cloneDevice(device));
    if (threads.length > 1 && descriptors.includes(undefined))
      throw new StoreError('PERMISSION_DENIED', 'several readers need a /dev/fuse that this user may open');
    this.closed = Promise.all(threads.map((thread, i) => this.#serve(thread, descriptors[i]))).then(() => {});
  }

  async stop(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.stop()));
  }

  /** Serves on one clone of the device after the other, until one is unmounted. */
  async #serve(first: ServingThread, clone: number | undefined): Promise<void> {
    const { handOver } = this.#context;
    let thread = first;
    for (let fd = clone; ; fd = cloneDevice(this.#device)) {
      const served = fd ?? this.#device;
      setNonBlocking(served);
      thread.serve(served, this.#context);
      const failure = await thread.ended;
      handOver.remove(thread);
      if (fd !== undefined) closeSync(fd);
      if (!failure) return;
      log.error('a serving thread failed', { error: messageOf(failure) });
      const isTableLost = new NodeTable(this.#context.nodes).isLockedBy(thread.id);
      if (fd === undefined || isTableLost || this.#isTooMuch())
        throw new StoreError('INTERNAL', `the kernel cannot be served any longer: ${messageOf(failure)}`);
      thread = await this.#start();
      this.threads.push(thread);
    }
  }

  /** Counts a failure. */
  #isTooMuch(): boolean {
    const now = performance.now();
    this.#failures = now - this.#failedAt < IN_A_ROW_MS ? this.#failures + 1 : 1;
    this.#failedAt = now;
    return this.#failures >= MAX_FAILURES;
  }
}

/**
 * Another descriptor of the same mount, with a queue of its own for what it has taken; `undefined` for a user who was
 * given the device by a helper and may not open it.
 */
function cloneDevice(fd: number): number | undefined {
  let clone: number;
  try {
    clone = openSync('/dev/fuse', 'r+');
  } catch (error) {
    if (systemCode(error) === 'EACCES') return undefined;
    throw error;
  }
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(fd);
  if (libc.ioctl(clone, FUSE_DEV_IOC_CLONE, argument) === 0) return clone;
  const error = errnoName(errno());
  closeSync(clone);
  throw new StoreError('INTERNAL', `cannot open the FUSE device once more: ${error}`);
}
