import { ERRNO } from '../fs/file-system.ts';
import { log } from '../util/log.ts';
import { addressOf, errno, errnoName, libc, POLLIN } from '../util/system/libc.ts';
import type { DispatcherOptions } from './dispatcher.ts';
import { Dispatcher } from './dispatcher.ts';
import { Patience } from './patience.ts';
import * as fuse from './protocol.ts';

const EAGAIN = 11;
const ENODEV = 19;
const ECONNABORTED = 103;
/** Waiting for the next request without sleeping, in milliseconds. */
const SPIN_MS = 0.15;

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
  readonly #request = Buffer.allocUnsafeSlow(fuse.REQUEST_BUFFER_LENGTH);
  readonly #requestAddress = addressOf(this.#request);
  /** Two `struct pollfd`: the device and the eventfd. */
  readonly #poll = Buffer.alloc(16);
  readonly #pollAddress = addressOf(this.#poll);
  readonly #replyAddress: number;

  constructor(options: DeviceSessionOptions) {
    this.#options = options;
    this.#dispatcher = new Dispatcher(options, (length) => this.#send(length));
    this.#replyAddress = addressOf(this.#dispatcher.reply);
    this.#poll.writeInt32LE(options.fd, 0);
    this.#poll.writeInt16LE(POLLIN, 4);
    this.#poll.writeInt32LE(options.wakeFd, 8);
    this.#poll.writeInt16LE(POLLIN, 12);
  }

  /** Returns when the file system has been unmounted, or when told to leave. */
  run(): void {
    const { fd, fs } = this.#options;
    for (;;) {
      this.#dispatcher.receive();
      if (this.#dispatcher.stopped) return;
      const length = libc.read(fd, this.#requestAddress, this.#request.length);
      if (length >= 0) {
        this.#patience.renew();
        if (length >= fuse.IN_HEADER_LENGTH) this.serve(this.#request.subarray(0, length));
        continue;
      }
      const error = errno();
      if (error === EAGAIN) {
        if (this.#patience.lasts()) continue;
        fs.refresh();
        libc.poll(this.#pollAddress, 2, -1);
      } else if (error === ENODEV || error === ECONNABORTED) return;
      // A request that was taken back before it was read, or a signal.
      else if (error !== ERRNO.ENOENT && error !== ERRNO.EINTR) {
        log.error('reading from the FUSE device failed', { error: errnoName(error) });
        return;
      }
    }
  }

  /** Serves one request. */
  serve(bytes: Buffer): void {
    this.#dispatcher.serve(bytes, undefined);
  }

  #send(length: number): void {
    if (length === 0) return;
    if (libc.write(this.#options.fd, this.#replyAddress, length) >= 0) return;
    const error = errno();
    // ENOENT: the process that asked is gone. ENODEV: so is the mount, as the next read will tell.
    if (error !== ERRNO.ENOENT && error !== ENODEV && error !== ECONNABORTED) {
      log.error('a reply was refused', { error: errnoName(error) });
    }
  }
}
