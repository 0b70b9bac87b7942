import type { MessagePort } from 'node:worker_threads';
import { receiveMessageOnPort } from 'node:worker_threads';
import type { FileSystem, Need } from '../fs/file-system.ts';
import { ERRNO, MISSING } from '../fs/file-system.ts';
import { messageOf } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { CallBuffer } from '../util/system/call-buffer.ts';
import { drainEventfd } from '../util/system/eventfd.ts';
import type { FilePart } from '../util/system/file-splice.ts';
import type { Handler, Request } from './handler.ts';
import { argsLength, NO_REPLY } from './handler.ts';
import { OP } from './opcodes.ts';
import * as fuse from './protocol.ts';

/** From the thread that serves the kernel to the fetch side. */
export type SessionMessage =
  /** `pid`: of whoever asks first, or 0. */
  | { readonly type: 'need'; readonly need: Need; readonly pid: number }
  /** Nobody waits for it any more. */
  | { readonly type: 'leave'; readonly key: string }
  /** A request that another thread may hold has been interrupted. */
  | { readonly type: 'interrupt'; readonly low: number; readonly high: number }
  /** Are you there? Requests wait. */
  | { readonly type: 'ping' };

/** From the fetch side. */
export type FetchMessage =
  /** The need is met, or failed with an errno. `payload` is for the file system. */
  | { readonly type: 'done'; readonly key: string; readonly errno: number; readonly payload?: unknown }
  | { readonly type: 'payload'; readonly payload: unknown }
  | { readonly type: 'pong' }
  | { readonly type: 'interrupt'; readonly low: number; readonly high: number };

/** Words shared with the fetch side. */
export const CONTROL = {
  /** Set when messages are waiting; the eventfd wakes a thread that sleeps. */
  MESSAGES: 0,
  /** Set when the thread is to leave. */
  STOP: 1,
  LENGTH: 2,
} as const;

/** What a thread counts, in memory shared with the fetch side, which only reads it. Exact up to 2^53. */
export const COUNTER = {
  /** Bytes of file contents answered. */
  READ_BYTES: 0,
  /** Requests that had to wait for something to be fetched. */
  PARKED: 1,
  /** Files of which something was read. */
  FILES: 2,
  /** Requests whose opcode is too high for a counter of its own. */
  OTHER_REQUESTS: 3,
  /** Requests by opcode, from here to the end. */
  REQUESTS: 64,
  LENGTH: 256,
} as const;

/** A request that waits for something to be fetched. */
interface Parked<Origin> {
  readonly bytes: Buffer;
  readonly origin: Origin;
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
/** Where a request has the process, or thread, that makes it. */
export const PID_AT = 32;
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

  /** Takes what the fetch side has sent; false when that is nothing. */
  receive(): boolean {
    if (this.#parked.size > 0) this.#watchFetchSide();
    const { control, wakeFd, port } = this.#options;
    if (Atomics.load(control, CONTROL.MESSAGES) === 0) return false;
    Atomics.store(control, CONTROL.MESSAGES, 0);
    drainEventfd(wakeFd);
    for (;;) {
      const received = receiveMessageOnPort(port);
      if (!received) return true;
      const message = received.message as FetchMessage;
      this.#pings = 0;
      if (message.type === 'pong') continue;
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
    for (const { bytes, origin, tries } of waiting ?? []) {
      if (error !== 0) this.#send(bytes, -error, origin);
      else this.serve(bytes, origin, tries);
    }
  }

  /** Serves one request, which was run `tries` times before. `bytes` has the header at least. */
  serve(bytes: Buffer, origin: Origin, tries = 0): void {
    const opcode = bytes.readUInt32LE(4);
    const { counters } = this.#options;
    const counter = COUNTER.REQUESTS + opcode;
    counters[counter < COUNTER.LENGTH ? counter : COUNTER.OTHER_REQUESTS]!++;
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
      this.#send(bytes, NO_REPLY, origin);
      return;
    }
    const files: FilePart[] | undefined = this.#options.sendsFiles && opcode === OP.READ ? [] : undefined;
    const request: Request = {
      opcode,
      nodeId: view.getUint32(16, true),
      resumed: tries > 0,
      args: view,
      argsAt: fuse.IN_HEADER_LENGTH,
      payload: bytes,
      payloadAt: fuse.IN_HEADER_LENGTH + argsLength(opcode),
      payloadEnd: bytes.length,
      files,
    };
    const result = this.#handle(request);
    if (result === MISSING) this.#park(bytes, origin, tries + 1);
    else this.#send(bytes, result, origin, files);
    if (opcode === OP.READ && result > 0) counters[COUNTER.READ_BYTES]! += result;
  }

  #handle(request: Request): number {
    try {
      return this.#options.handler(request, this.reply.bytes, fuse.OUT_HEADER_LENGTH);
    } catch (error) {
      log.error('a request failed', { opcode: request.opcode, error: messageOf(error) });
      return -ERRNO.EIO;
    }
  }

  #park(bytes: Buffer, origin: Origin, tries: number): void {
    if (tries > MAX_TRIES) {
      log.error('a request is not satisfied by what is fetched for it');
      this.#send(bytes, -ERRNO.EIO, origin);
      return;
    }
    if (tries === 1) this.#options.counters[COUNTER.PARKED]!++;
    const need = this.#options.fs.missing();
    const kept = tries === 1 ? Buffer.from(bytes.subarray(0, PARKED_LENGTH)) : bytes;
    const parked = { bytes: kept, origin, tries };
    const waiting = this.#parked.get(need.key);
    if (waiting) {
      waiting.push(parked);
      return;
    }
    this.#parked.set(need.key, [parked]);
    this.#post({ type: 'need', need, pid: bytes.readUInt32LE(PID_AT) });
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
      for (const parked of waiting) if (chosen(parked)) this.#send(parked.bytes, result, parked.origin);
      if (left.length > 0) this.#parked.set(key, left);
      else {
        this.#parked.delete(key);
        this.#post({ type: 'leave', key });
      }
    }
    return found;
  }

  /** Hands over the reply whose body lies behind the header already, or an error. */
  #send(request: Buffer, result: number, origin: Origin, files: readonly FilePart[] = NO_FILES): void {
    if (result === NO_REPLY) {
      this.#answer(0, origin, NO_FILES);
      return;
    }
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
