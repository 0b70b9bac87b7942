import { readSync } from 'node:fs';
import { ERRNO } from '../fs/file-system.ts';
import { messageOf } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { CallBuffer } from '../util/system/call-buffer.ts';
import type { FilePart } from '../util/system/file-splice.ts';
import { FileSplice } from '../util/system/file-splice.ts';
import { errno, errnoName, libc } from '../util/system/libc.ts';
import { PollSet } from '../util/system/poll-set.ts';
import { countIoError } from './counters.ts';
import type { DispatcherOptions } from './dispatcher.ts';
import { Dispatcher } from './dispatcher.ts';
import { Patience } from './patience.ts';
import * as fuse from './protocol.ts';

const EAGAIN = 11;
const ENODEV = 19;
const ECONNABORTED = 103;
/** Waiting for the next request without sleeping, in milliseconds. */
const SPIN_MS = 0.15;
/** Slots of what is polled: the device, and the eventfd of the fetch side. */
const DEVICE = 0;
const WAKE = 1;
const POLLED = 2;

export interface DeviceSessionOptions extends DispatcherOptions {
  /** The FUSE device, non-blocking. */
  readonly fd: number;
}

/**
 * Serves the kernel on `/dev/fuse`, synchronously, in a thread of its own. It waits for nobody but the
 * kernel.
 */
export class DeviceSession {
  readonly #options: DeviceSessionOptions;
  readonly #dispatcher: Dispatcher<undefined>;
  readonly #patience = new Patience(SPIN_MS);
  readonly #request = new CallBuffer(fuse.REQUEST_BUFFER_LENGTH);
  readonly #splice = new FileSplice();
  readonly #poll = new PollSet(POLLED);

  constructor(options: DeviceSessionOptions) {
    this.#options = options;
    this.#dispatcher = new Dispatcher({ ...options, sendsFiles: true }, (length, _, files) =>
      this.#send(length, files),
    );
    this.#poll.watch(DEVICE, options.fd);
    this.#poll.watch(WAKE, options.wakeFd);
  }

  /** Returns when the file system has been unmounted, or when told to leave. Throws when the device fails. */
  run(): void {
    try {
      this.#serve();
    } finally {
      this.close();
    }
  }

  close(): void {
    this.#splice.close();
  }

  #serve(): void {
    const { fd, fs } = this.#options;
    const { bytes, address } = this.#request;
    for (;;) {
      if (this.#dispatcher.receive()) this.#patience.noteFetched();
      if (this.#dispatcher.stopped) return;
      const length = libc.read(fd, address, bytes.length);
      if (length >= 0) {
        const begun = this.#patience.renew();
        if (length >= fuse.IN_HEADER_LENGTH) this.serve(bytes.subarray(0, length), begun);
        continue;
      }
      const error = errno();
      if (error === EAGAIN) {
        if (this.#patience.lasts()) continue;
        fs.refresh();
        this.#poll.wait(POLLED, this.#dispatcher.sleepMs);
      } else if (error === ENODEV || error === ECONNABORTED) return;
      // A request that was taken back before it was read, or a signal.
      else if (error !== ERRNO.ENOENT && error !== ERRNO.EINTR) {
        throw new Error(`reading from the FUSE device failed: ${errnoName(error)}`);
      }
    }
  }

  /** Serves one request, which came at `begun`. */
  serve(bytes: Buffer, begun?: number): void {
    this.#dispatcher.serve(bytes, undefined, begun);
  }

  #send(length: number, files: readonly FilePart[]): void {
    if (length === 0 || this.#write(length, files) >= 0) return;
    const error = errno();
    // ENOENT: the process that asked is gone. ENODEV: so is the mount, as the next read will tell.
    if (error !== ERRNO.ENOENT && error !== ENODEV && error !== ECONNABORTED) {
      log.error('a reply was refused', { error: errnoName(error) });
    }
  }

  #write(length: number, files: readonly FilePart[]): number {
    const { fd } = this.#options;
    const { bytes, address } = this.#dispatcher.reply;
    if (files.length === 0) return libc.write(fd, address, length);
    const sent = this.#splice.write(fd, address, fuse.OUT_HEADER_LENGTH, files);
    if (sent !== undefined) return sent;
    if (readInto(bytes, files)) return libc.write(fd, address, length);
    countIoError(this.#options.counters, 'local');
    return libc.write(fd, address, failed(bytes));
  }
}

/** Copies parts of files behind the header of a reply; false when one of them has become shorter, or cannot be read. */
function readInto(reply: Buffer, files: readonly FilePart[]): boolean {
  let at = fuse.OUT_HEADER_LENGTH;
  try {
    for (const { fd, offset, length } of files) {
      if (readSync(fd, reply, at, length, offset) !== length) return false;
      at += length;
    }
    return true;
  } catch (error) {
    log.error('a chunk that was open cannot be read', { error: messageOf(error) });
    return false;
  }
}

/** Makes a reply an I/O error; gives its length. */
function failed(reply: Buffer): number {
  reply.writeUInt32LE(fuse.OUT_HEADER_LENGTH, 0);
  reply.writeInt32LE(-ERRNO.EIO, 4);
  return fuse.OUT_HEADER_LENGTH;
}
