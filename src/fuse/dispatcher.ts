import type { MessagePort } from 'node:worker_threads';
import { receiveMessageOnPort } from 'node:worker_threads';
import type { FileSystem, Need } from '../fs/file-system.ts';
import { ERRNO, MISSING } from '../fs/file-system.ts';
import { messageOf } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { observe } from '../util/metrics/distribution.ts';
import { CallBuffer } from '../util/system/call-buffer.ts';
import { drainEventfd } from '../util/system/eventfd.ts';
import type { FilePart } from '../util/system/file-splice.ts';
import type { IoErrorCause } from './counters.ts';
import { COUNTER, countIoError, latencyCounter, requestCounter, sharedTime } from './counters.ts';
import type { Handler, Request } from './handler.ts';
import { argsLength, NO_REPLY } from './handler.ts';
import { OP } from './opcodes.ts';
import * as fuse from './protocol.ts';

/** From the thread that serves the kernel to the fetch side. */
export type SessionMessage =
  | { readonly type: 'need'; readonly need: Need }
  /** Nobody waits for it any more. */
  | { readonly type: 'leave'; readonly key: string }
  /** A request that another thread may hold has been interrupted. */
  | { readonly type: 'interrupt'; readonly low: number; readonly high: number }
  /** Are you there? Requests wait. */
  | { readonly type: 'ping' }
  /** The thread is there, as it was asked to say. */
  | { readonly type: 'there' };

/** From the fetch side. */
export type FetchMessage =
  /** The need is met, or failed with an errno. `payload` is for the file system. */
  | { readonly type: 'done'; readonly key: string; readonly errno: number; readonly payload?: unknown }
  | { readonly type: 'payload'; readonly payload: unknown }
  | { readonly type: 'pong' }
  /** The thread is to say that it is there. */
  | { readonly type: 'ask' }
  | { readonly type: 'interrupt'; readonly low: number; readonly high: number };

/** Words shared with the fetch side. */
export const CONTROL = {
  /** Set when messages are waiting; the eventfd wakes a thread that sleeps. */
  MESSAGES: 0,
  /** Set when the thread is to leave. */
  STOP: 1,
  LENGTH: 2,
} as const;

/** A request that waits for something to be fetched. */
interface Parked<Origin> {
  readonly bytes: Buffer;
  readonly origin: Origin;
  /** When it came, by `performance.now()`. */
  readonly begun: number;
  /** How often it was run. */
  tries: number;
}

const NO_FILES: readonly FilePart[] = [];
/** A request that is not satisfied after so many fetches never will be. */
const MAX_TRIES = 64;
/** While requests are parked, the fetch side is asked so often whether it is there, in milliseconds. */
const PING_MS = 1000;
/**
 * A fetch side that has not said so after so many times is taken to wait for one of these requests itself, by a path
 * that leads into the mount which it serves.
 */
const MAX_PINGS = 10;
/** Arguments of INTERRUPT: the `unique` of the request that is meant. */
const INTERRUPT_LENGTH = 8;
/** Of a request that is parked, so much is kept: a name and all arguments lie in it. */
const PARKED_LENGTH = 4096;

export interface DispatcherOptions {
  readonly wakeFd: number;
  readonly control: Int32Array;
  /** See `COUNTER`. */
  readonly counters: Float64Array;
  readonly port: MessagePort;
  readonly fs: FileSystem;
  readonly handler: Handler;
  /** Whether the transport can send parts of files. */
  readonly sendsFiles?: boolean;
  /** Takes what the fetch side sends for the file system. */
  readonly onPayload: (payload: unknown) => void;
}

/**
 * Takes a reply of so many bytes, which lies in the dispatcher's `reply`; or its header does, and the rest in `files`.
 * Length 0: none is expected.
 */
export type Answer<Origin> = (length: number, origin: Origin, files: readonly FilePart[]) => void;

/**
 * Runs requests, whichever transport brings them: what is not local is asked of the fetch side, and the same
 * request is run again when that has answered. `Origin` is what a transport needs to answer one.
 */
export class Dispatcher<Origin> {
  /** Where the reply under way is written. */
  readonly reply: CallBuffer = new CallBuffer(fuse.REPLY_BUFFER_LENGTH);
  readonly #options: DispatcherOptions;
  readonly #answer: Answer<Origin>;
  readonly #parked = new Map<string, Parked<Origin>[]>();
  /** Those that are not answered yet, in the order in which they were parked first. */
  readonly #waiting = new Set<Parked<Origin>>();
  /** When the fetch side was asked last whether it is there, and how often since it said so. */
  #pinged = 0;
  #pings = 0;

  constructor(options: DispatcherOptions, answer: Answer<Origin>) {
    this.#options = options;
    this.#answer = answer;
  }

  /** Whether the thread is to leave. */
  get stopped(): boolean {
    return Atomics.load(this.#options.control, CONTROL.STOP) !== 0;
  }

  /** For how long the thread may sleep, in milliseconds; -1 for ever. */
  get sleepMs(): number {
    return this.#parked.size > 0 ? PING_MS : -1;
  }

  /** Makes sure that somebody is there for the requests that are parked; otherwise they fail. */
  #watchFetchSide(): void {
    const now = performance.now();
    if (now - this.#pinged < PING_MS) return;
    this.#pinged = now;
    this.#pings++;
    this.#post({ type: 'ping' });
    if (this.#pings <= MAX_PINGS) return;
    log.error('the fetch side does not answer; what waits for it fails');
    this.#pings = 0;
    this.giveUp(() => true);
  }

  /** Takes what the fetch side has sent, if it has sent something. */
  receive(): void {
    if (this.#parked.size > 0) this.#watchFetchSide();
    const { control, wakeFd, port } = this.#options;
    if (Atomics.load(control, CONTROL.MESSAGES) === 0) return;
    Atomics.store(control, CONTROL.MESSAGES, 0);
    drainEventfd(wakeFd);
    for (;;) {
      const received = receiveMessageOnPort(port);
      if (!received) return;
      const message = received.message as FetchMessage;
      this.#pings = 0;
      if (message.type === 'pong') continue;
      if (message.type === 'ask') {
        this.#post({ type: 'there' });
        continue;
      }
      if (message.type === 'interrupt') {
        this.#interrupt(message.low, message.high);
        continue;
      }
      if (message.payload !== undefined) this.#options.onPayload(message.payload);
      if (message.type === 'done') this.#resume(message.key, message.errno);
    }
  }

  #resume(key: string, error: number): void {
    const waiting = this.#parked.get(key);
    this.#parked.delete(key);
    this.#options.fs.refresh();
    for (const parked of waiting ?? []) {
      if (error === 0) this.#run(parked.bytes, parked.origin, parked.begun, parked);
      else {
        if (error === ERRNO.EIO) this.#countIoError('fetch');
        this.#finish(parked, -error);
      }
    }
  }

  /** Serves one request, which came at `begun`, by `performance.now()`. `bytes` has the header at least. */
  serve(bytes: Buffer, origin: Origin, begun: number = performance.now()): void {
    this.#options.counters[requestCounter(bytes.readUInt32LE(4))]!++;
    this.#run(bytes, origin, begun);
  }

  /** Runs a request, which has been `parked` if it was run before. */
  #run(bytes: Buffer, origin: Origin, begun: number, parked?: Parked<Origin>): void {
    const opcode = bytes.readUInt32LE(4);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (opcode === OP.INTERRUPT) {
      const at = fuse.IN_HEADER_LENGTH;
      // A guest may send anything, and this has no answer.
      if (bytes.length >= at + INTERRUPT_LENGTH) {
        const low = view.getUint32(at, true);
        const high = view.getUint32(at + 4, true);
        // With several threads, the one that holds the request has to answer it.
        if (!this.#interrupt(low, high)) this.#post({ type: 'interrupt', low, high });
      }
      this.#send(bytes, NO_REPLY, origin, begun);
      return;
    }
    const files: FilePart[] | undefined = this.#options.sendsFiles && opcode === OP.READ ? [] : undefined;
    const request: Request = {
      opcode,
      nodeId: view.getUint32(16, true),
      resumed: parked !== undefined,
      args: view,
      argsAt: fuse.IN_HEADER_LENGTH,
      payload: bytes,
      payloadAt: fuse.IN_HEADER_LENGTH + argsLength(opcode),
      payloadEnd: bytes.length,
      files,
    };
    const result = this.#handle(request);
    if (result === MISSING) {
      this.#park(parked ?? this.#kept(bytes, origin, begun));
      return;
    }
    if (opcode === OP.READ && result > 0) this.#options.counters[COUNTER.READ_BYTES]! += result;
    if (parked) this.#finish(parked, result, files);
    else this.#send(bytes, result, origin, begun, files);
  }

  #handle(request: Request): number {
    try {
      const result = this.#options.handler(request, this.reply.bytes, fuse.OUT_HEADER_LENGTH);
      if (result === -ERRNO.EIO) this.#countIoError('local');
      return result;
    } catch (error) {
      log.error('a request failed', { opcode: request.opcode, error: messageOf(error) });
      this.#countIoError('fault');
      return -ERRNO.EIO;
    }
  }

  /** A copy of a request, which waits from now on. */
  #kept(bytes: Buffer, origin: Origin, begun: number): Parked<Origin> {
    const parked = { bytes: Buffer.from(bytes.subarray(0, PARKED_LENGTH)), origin, begun, tries: 0 };
    this.#options.counters[COUNTER.PARKED]!++;
    this.#waiting.add(parked);
    this.#countWaiting();
    return parked;
  }

  #park(parked: Parked<Origin>): void {
    if (++parked.tries > MAX_TRIES) {
      log.error('a request is not satisfied by what is fetched for it');
      this.#countIoError('unsatisfied');
      this.#finish(parked, -ERRNO.EIO);
      return;
    }
    const need = this.#options.fs.missing();
    const waiting = this.#parked.get(need.key);
    if (waiting) {
      waiting.push(parked);
      return;
    }
    this.#parked.set(need.key, [parked]);
    this.#post({ type: 'need', need });
  }

  /** Answers a request that has waited. */
  #finish(parked: Parked<Origin>, result: number, files?: readonly FilePart[]): void {
    this.#waiting.delete(parked);
    this.#countWaiting();
    this.#send(parked.bytes, result, parked.origin, parked.begun, files);
  }

  #countWaiting(): void {
    const { counters } = this.#options;
    const [oldest] = this.#waiting;
    counters[COUNTER.WAITING] = this.#waiting.size;
    counters[COUNTER.WAITING_SINCE] = oldest ? sharedTime(oldest.begun) : 0;
  }

  #countIoError(cause: IoErrorCause): void {
    countIoError(this.#options.counters, cause);
  }

  /** Answers a parked request whose process was interrupted; false when there is none. */
  #interrupt(low: number, high: number): boolean {
    return this.#take(
      ({ bytes }) => bytes.readUInt32LE(8) === low && bytes.readUInt32LE(12) === high,
      -ERRNO.EINTR,
    );
  }

  /** Answers the parked requests of these origins with an I/O error: they cannot wait any longer. */
  giveUp(ofOrigin: (origin: Origin) => boolean): void {
    this.#take(({ origin }) => ofOrigin(origin), -ERRNO.EIO);
  }

  /** Answers the parked requests that `chosen` picks; false when there are none. */
  #take(chosen: (parked: Parked<Origin>) => boolean, result: number): boolean {
    let found = false;
    for (const [key, waiting] of this.#parked) {
      const left = waiting.filter((parked) => !chosen(parked));
      if (left.length === waiting.length) continue;
      found = true;
      for (const parked of waiting) {
        if (!chosen(parked)) continue;
        if (result === -ERRNO.EIO) this.#countIoError('abandoned');
        this.#finish(parked, result);
      }
      if (left.length > 0) this.#parked.set(key, left);
      else {
        this.#parked.delete(key);
        this.#post({ type: 'leave', key });
      }
    }
    return found;
  }

  /** Hands over the reply whose body lies behind the header already, or an error. */
  #send(
    request: Buffer,
    result: number,
    origin: Origin,
    begun: number,
    files: readonly FilePart[] = NO_FILES,
  ): void {
    if (result === NO_REPLY) this.#answer(0, origin, NO_FILES);
    else this.#reply(request, result, origin, files);
    observe(this.#options.counters, latencyCounter(request.readUInt32LE(4)), performance.now() - begun);
  }

  #reply(request: Buffer, result: number, origin: Origin, files: readonly FilePart[]): void {
    const length = fuse.OUT_HEADER_LENGTH + Math.max(result, 0);
    const { bytes } = this.reply;
    bytes.writeUInt32LE(length, 0);
    bytes.writeInt32LE(Math.min(result, 0), 4);
    bytes.writeUInt32LE(request.readUInt32LE(8), 8);
    bytes.writeUInt32LE(request.readUInt32LE(12), 12);
    this.#answer(length, origin, files);
  }

  #post(message: SessionMessage): void {
    this.#options.port.postMessage(message);
  }
}
