import { availableParallelism } from 'node:os';
import type { MessagePort } from 'node:worker_threads';
import { receiveMessageOnPort } from 'node:worker_threads';
import type { FileSystem, Need } from '../fs/file-system.ts';
import { ERRNO, MISSING } from '../fs/file-system.ts';
import { messageOf } from '../util/errors.ts';
import { addressOf, errno, errnoName, libc } from '../util/libc.ts';
import { log } from '../util/log.ts';
import type { Handler, Request } from './handler.ts';
import { argsLength, NO_REPLY } from './handler.ts';
import * as fuse from './protocol.ts';

const EAGAIN = 11;
const ENODEV = 19;
const ECONNABORTED = 103;
const POLLIN = 1;

/** From the thread that serves the kernel to the fetch side. */
export type SessionMessage =
  | { readonly type: 'need'; readonly need: Need }
  /** Nobody waits for it any more. */
  | { readonly type: 'leave'; readonly key: string }
  /** A request that another thread may hold has been interrupted. */
  | { readonly type: 'interrupt'; readonly low: number; readonly high: number };

/** From the fetch side. */
export type FetchMessage =
  /** The need is met, or failed with an errno. `payload` is for the file system. */
  | { readonly type: 'done'; readonly key: string; readonly errno: number; readonly payload?: unknown }
  | { readonly type: 'payload'; readonly payload: unknown }
  | { readonly type: 'interrupt'; readonly low: number; readonly high: number };

/** Words shared with the fetch side. */
export const CONTROL = {
  /** Set when messages are waiting; the eventfd wakes a thread that sleeps. */
  MESSAGES: 0,
  /** Set when the thread is to leave. */
  STOP: 1,
  /** Bytes of file contents answered, in KiB. */
  READ_KIB: 2,
  /** Requests that had to wait for something to be fetched. */
  PARKED: 3,
  /** Files of which something was read. */
  FILES: 4,
  /** Requests by opcode from here on. */
  REQUESTS: 64,
  LENGTH: 128,
} as const;

/** A request that waits for something to be fetched. */
interface Parked {
  readonly bytes: Buffer;
  /** How often it was run. */
  tries: number;
}

/** Requests no further apart than this, in milliseconds, come one upon the other. */
const HOT_MS = 0.5;
/** How long to wait for the next of them without sleeping. A single processor is better left to others. */
const SPIN_MS = availableParallelism() > 1 ? 0.15 : 0;

/** A request that is not satisfied after so many fetches never will be. */
const MAX_TRIES = 64;

export interface DeviceSessionOptions {
  /** The FUSE device, non-blocking. */
  readonly fd: number;
  readonly wakeFd: number;
  readonly control: Int32Array;
  readonly port: MessagePort;
  readonly fs: FileSystem;
  readonly handler: Handler;
  /** Takes what the fetch side sends for the file system. */
  readonly onPayload: (payload: unknown) => void;
}

/**
 * Serves the kernel on `/dev/fuse`, synchronously, in a thread of its own. It waits for nobody but the
 * kernel: what is not local is asked of the fetch side, and the same request is run again when that has
 * answered.
 */
export class DeviceSession {
  readonly #options: DeviceSessionOptions;
  readonly #parked = new Map<string, Parked[]>();
  readonly #request = Buffer.allocUnsafeSlow(fuse.REQUEST_BUFFER_LENGTH);
  readonly #requestAddress = addressOf(this.#request);
  readonly #reply = Buffer.allocUnsafeSlow(fuse.REPLY_BUFFER_LENGTH);
  readonly #replyAddress = addressOf(this.#reply);
  /** Two `struct pollfd`: the device and the eventfd. */
  readonly #poll = Buffer.alloc(16);
  readonly #pollAddress = addressOf(this.#poll);
  /** When the last request came, in milliseconds, and whether it came soon after the one before. */
  #last = 0;
  #hot = false;
  readonly #wakeCount = Buffer.alloc(8);
  readonly #wakeCountAddress = addressOf(this.#wakeCount);

  constructor(options: DeviceSessionOptions) {
    this.#options = options;
    this.#poll.writeInt32LE(options.fd, 0);
    this.#poll.writeInt16LE(POLLIN, 4);
    this.#poll.writeInt32LE(options.wakeFd, 8);
    this.#poll.writeInt16LE(POLLIN, 12);
  }

  /** Returns when the file system has been unmounted, or when told to leave. */
  run(): void {
    const { fd, control } = this.#options;
    for (;;) {
      if (Atomics.load(control, CONTROL.MESSAGES) !== 0) this.#receive();
      if (Atomics.load(control, CONTROL.STOP) !== 0) return;
      const length = libc.read(fd, this.#requestAddress, this.#request.length);
      if (length >= 0) {
        this.#heat();
        if (length >= fuse.IN_HEADER_LENGTH) this.serve(this.#request.subarray(0, length));
        continue;
      }
      const error = errno();
      if (error === EAGAIN) {
        if (!this.#mayBeSoon()) this.#sleep();
      } else if (error === ENODEV || error === ECONNABORTED) return;
      // A request that was taken back before it was read, or a signal.
      else if (error !== ERRNO.ENOENT && error !== ERRNO.EINTR) {
        log.error('reading from the FUSE device failed', { error: errnoName(error) });
        return;
      }
    }
  }

  /** Notes that a request has come, and whether they come one upon the other. */
  #heat(): void {
    const now = performance.now();
    this.#hot = SPIN_MS > 0 && now - this.#last < HOT_MS;
    this.#last = now;
  }

  /**
   * Whether the next request is likely to come before a sleeping thread could be woken, which takes 70 us where
   * processors idle deeply: then asking again at once is cheaper for whoever waits.
   */
  #mayBeSoon(): boolean {
    if (!this.#hot) return false;
    this.#hot = performance.now() - this.#last < SPIN_MS;
    return this.#hot;
  }

  #sleep(): void {
    this.#options.fs.refresh();
    libc.poll(this.#pollAddress, 2, -1);
  }

  /** Takes what the fetch side has sent. */
  #receive(): void {
    const { control, wakeFd, port } = this.#options;
    Atomics.store(control, CONTROL.MESSAGES, 0);
    libc.read(wakeFd, this.#wakeCountAddress, 8);
    for (;;) {
      const received = receiveMessageOnPort(port);
      if (!received) return;
      const message = received.message as FetchMessage;
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
    for (const { bytes, tries } of waiting ?? []) {
      if (error !== 0) this.#send(bytes, -error);
      else this.serve(bytes, tries);
    }
  }

  /** Serves one request, which was run `tries` times before. */
  serve(bytes: Buffer, tries = 0): void {
    const opcode = bytes.readUInt32LE(4);
    this.#options.control[CONTROL.REQUESTS + (opcode & 63)]!++;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (opcode === fuse.OP.INTERRUPT) {
      const at = fuse.IN_HEADER_LENGTH;
      const low = view.getUint32(at, true);
      const high = view.getUint32(at + 4, true);
      // With several threads, the one that holds the request has to answer it.
      if (!this.#interrupt(low, high)) this.#post({ type: 'interrupt', low, high });
      return;
    }
    const request: Request = {
      opcode,
      nodeId: view.getUint32(16, true),
      resumed: tries > 0,
      args: view,
      argsAt: fuse.IN_HEADER_LENGTH,
      payload: bytes,
      payloadAt: fuse.IN_HEADER_LENGTH + argsLength(opcode),
      payloadEnd: bytes.length,
    };
    const result = this.#handle(request);
    if (result === MISSING) this.#park(bytes, tries + 1);
    else if (result !== NO_REPLY) this.#send(bytes, result);
    if (opcode === fuse.OP.READ && result > 0)
      this.#options.control[CONTROL.READ_KIB]! += (result + 1023) >> 10;
  }

  #handle(request: Request): number {
    try {
      return this.#options.handler(request, this.#reply, fuse.OUT_HEADER_LENGTH);
    } catch (error) {
      log.error('a request failed', { opcode: request.opcode, error: messageOf(error) });
      return -ERRNO.EIO;
    }
  }

  #park(bytes: Buffer, tries: number): void {
    if (tries > MAX_TRIES) {
      log.error('a request is not satisfied by what is fetched for it');
      this.#send(bytes, -ERRNO.EIO);
      return;
    }
    if (tries === 1) this.#options.control[CONTROL.PARKED]!++;
    const need = this.#options.fs.missing();
    const parked = { bytes: tries === 1 ? Buffer.from(bytes) : bytes, tries };
    const waiting = this.#parked.get(need.key);
    if (waiting) {
      waiting.push(parked);
      return;
    }
    this.#parked.set(need.key, [parked]);
    this.#post({ type: 'need', need });
  }

  /** Answers a parked request whose process was interrupted; false when there is none. */
  #interrupt(low: number, high: number): boolean {
    for (const [key, waiting] of this.#parked) {
      const index = waiting.findIndex(
        ({ bytes }) => bytes.readUInt32LE(8) === low && bytes.readUInt32LE(12) === high,
      );
      if (index < 0) continue;
      this.#send(waiting.splice(index, 1)[0]!.bytes, -ERRNO.EINTR);
      if (waiting.length === 0) {
        this.#parked.delete(key);
        this.#post({ type: 'leave', key });
      }
      return true;
    }
    return false;
  }

  /** Sends the reply whose body lies behind the header already, or an error. */
  #send(request: Buffer, result: number): void {
    const length = fuse.OUT_HEADER_LENGTH + Math.max(result, 0);
    this.#reply.writeUInt32LE(length, 0);
    this.#reply.writeInt32LE(Math.min(result, 0), 4);
    this.#reply.writeUInt32LE(request.readUInt32LE(8), 8);
    this.#reply.writeUInt32LE(request.readUInt32LE(12), 12);
    const sent = libc.write(this.#options.fd, this.#replyAddress, length);
    if (sent >= 0) return;
    const error = errno();
    // ENOENT: the process that asked is gone. ENODEV: so is the mount, as the next read will tell.
    if (error !== ERRNO.ENOENT && error !== ENODEV && error !== ECONNABORTED) {
      log.error('a reply was refused', { opcode: request.readUInt32LE(4), error: errnoName(error) });
    }
  }

  #post(message: SessionMessage): void {
    this.#options.port.postMessage(message);
  }
}
