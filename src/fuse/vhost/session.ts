import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { PollSet } from '../../util/system/poll-set.ts';
import { acceptConnection } from '../../util/system/unix-socket.ts';
import { COUNTER } from '../counters.ts';
import type { DispatcherOptions } from '../dispatcher.ts';
import { Dispatcher } from '../dispatcher.ts';
import { Patience } from '../patience.ts';
import type { Origin } from './chain.ts';
import { GuestDevice } from './device.ts';
import { FrontEnd } from './front-end.ts';
import { MAX_QUEUES } from './protocol.ts';

/** How long requests may keep the thread from looking at its sockets, in milliseconds. */
const SOCKETS_MS = 5;
/**
 * Waiting for the next request without sleeping, in milliseconds. Shorter than beside our own kernel: the processors
 * of the virtual machine are threads that run on ours.
 */
const SPIN_MS = 0.06;
/** How often to look whether a queue has waited long enough to be stopped, in milliseconds. */
const STOPPING_MS = 20;
/** Slots of what is polled: the eventfd of the fetch side, the listener, the connection, then the queues. */
const WAKE = 0;
const LISTENER = 1;
const CONNECTION = 2;
const QUEUES = 3;

export interface VhostUserSessionOptions extends DispatcherOptions {
  /** A socket that listens, non-blocking. */
  readonly fd: number;
}

interface Guest {
  readonly frontEnd: FrontEnd;
  readonly device: GuestDevice;
}

/**
 * Serves the kernel of a virtual machine over a vhost-user socket (virtiofs), synchronously, in a thread of its
 * own. One guest at a time; when it has gone, the next may come.
 */
export class VhostUserSession {
  readonly #options: VhostUserSessionOptions;
  readonly #dispatcher: Dispatcher<Origin>;
  readonly #patience = new Patience(SPIN_MS);
  readonly #poll = new PollSet(QUEUES + MAX_QUEUES);
  #guest: Guest | undefined;
  /** Somebody else wants to connect, and was told of in the log. */
  #crowded = false;
  #polled = 0;

  constructor(options: VhostUserSessionOptions) {
    this.#options = options;
    this.#dispatcher = new Dispatcher(options, (length, origin) =>
      this.#guest!.device.answer(length, origin),
    );
  }

  /** Returns when told to leave. */
  run(): void {
    for (;;) {
      if (this.#dispatcher.receive()) this.#patience.noteFetched();
      if (this.#dispatcher.stopped) break;
      if (this.#guest?.device.stopping) this.#guarded(({ device }) => device.finishStopping());
      const device = this.#guest?.device;
      device?.tell();
      if (device && device.serve() > 0) {
        this.#patience.renew();
        if (performance.now() - this.#polled > SOCKETS_MS) this.#waitFor(0);
      } else if (!this.#patience.lasts() && !device?.wantKicks()) {
        this.#options.fs.refresh();
        this.#waitFor(device?.stopping ? STOPPING_MS : this.#dispatcher.sleepMs);
      }
    }
    this.#leave();
  }

  /** Waits for anything to happen, and sees to what comes through sockets. */
  #waitFor(milliseconds: number): void {
    const queues = this.#guest?.device.queues ?? [];
    this.#poll.watch(WAKE, this.#options.wakeFd);
    this.#poll.watch(LISTENER, this.#crowded ? -1 : this.#options.fd);
    this.#poll.watch(CONNECTION, this.#guest?.frontEnd.connection.fd ?? -1);
    for (const [i, queue] of queues.entries()) this.#poll.watch(QUEUES + i, queue.kick);
    const ready = this.#poll.wait(QUEUES + queues.length, milliseconds);
    this.#polled = performance.now();
    if (!ready) return;
    for (const [i, queue] of queues.entries()) {
      if (this.#poll.readable(QUEUES + i)) queue.drainKick();
      else if (this.#poll.happened(QUEUES + i)) queue.setKick(-1);
    }
    if (this.#poll.happened(CONNECTION)) this.#receive();
    if (this.#poll.happened(LISTENER)) this.#accept();
  }

  #accept(): void {
    if (this.#guest) {
      this.#crowded = true;
      log.warn('another guest has to wait until the present one has gone');
      return;
    }
    const fd = acceptConnection(this.#options.fd);
    if (fd === undefined) return;
    const device = new GuestDevice(this.#dispatcher);
    this.#guest = { device, frontEnd: new FrontEnd(fd, device) };
    this.#options.counters[COUNTER.GUESTS] = 1;
    log.info('a guest has come');
  }

  #receive(): void {
    this.#guarded(({ frontEnd }) => {
      if (frontEnd.receive()) return;
      log.info('the guest has gone');
      this.#leave();
    });
  }

  /** Does something with the guest, which is left when that makes no sense. */
  #guarded(work: (guest: Guest) => void): void {
    if (!this.#guest) return;
    try {
      work(this.#guest);
    } catch (error) {
      log.error('the connection of the guest is ended', { error: messageOf(error) });
      this.#leave();
    }
  }

  /** Lets go of the guest, if there is one. */
  #leave(): void {
    this.#guest?.device.close();
    this.#guest?.frontEnd.connection.close();
    this.#guest = undefined;
    this.#options.counters[COUNTER.GUESTS] = 0;
    this.#crowded = false;
    this.#options.fs.forgetAll();
  }
}
