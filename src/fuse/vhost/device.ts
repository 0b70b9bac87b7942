import { invalid, messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Dispatcher } from '../dispatcher.ts';
import { PID_AT } from '../dispatcher.ts';
import { IN_HEADER_LENGTH, REQUEST_BUFFER_LENGTH } from '../protocol.ts';
import type { Origin } from './chain.ts';
import { readChain, writeRoom } from './chain.ts';
import { GuestMemory } from './memory.ts';
import type { Virtqueue } from './queue.ts';

/** Requests taken from a queue before another has its turn. */
const TURN = 16;
/** Requests under way at most; the guest waits with more. */
const MAX_IN_FLIGHT = 4096;
/** From this length on, an answer is told of at once. */
const LONG_ANSWER = 16 * 1024;
/** How long a queue that is to stop waits for what is being fetched, in milliseconds. */
const STOP_MS = 1000;

/** A queue that is to stop when its requests are answered. */
interface Stopping {
  readonly queue: Virtqueue;
  readonly until: number;
  readonly stopped: (nextAvailable: number) => void;
}

/**
 * The device of a guest: its memory, its queues, and what it asks in them. A guest that breaks the rules has
 * no device until it resets that; it harms nobody else.
 */
export class GuestDevice {
  readonly memory: GuestMemory = new GuestMemory();
  readonly queues: Virtqueue[] = [];
  readonly #dispatcher: Dispatcher<Origin>;
  readonly #request = Buffer.allocUnsafeSlow(REQUEST_BUFFER_LENGTH);
  #broken = false;
  readonly #stopping: Stopping[] = [];

  constructor(dispatcher: Dispatcher<Origin>) {
    this.#dispatcher = dispatcher;
  }

  /** Takes what the guest asks, a few requests of each queue; gives their number. */
  serve(): number {
    let served = 0;
    try {
      for (const queue of this.queues) served += this.#serveQueue(queue);
    } catch (error) {
      this.#fail(error);
    }
    return served;
  }

  #serveQueue(queue: Virtqueue): number {
    let served = 0;
    while (queue.running && served < TURN && this.#inFlight < MAX_IN_FLIGHT) {
      const head = queue.take();
      if (head < 0) break;
      served++;
      const origin: Origin = { queue, head, addresses: [], lengths: [] };
      const length = readChain(queue.descriptors, head, this.memory, this.#request, origin);
      if (length < IN_HEADER_LENGTH || this.#request.readUInt32LE(0) !== length) {
        throw invalid(`a request of ${length} bytes has another length in its header`);
      }
      // Its processes are none of this machine.
      this.#request.writeUInt32LE(0, PID_AT);
      this.#dispatcher.serve(this.#request.subarray(0, length), origin);
    }
    if (served > 0 && queue.running) queue.wantKicks(false);
    queue.tell();
    return served;
  }

  get #inFlight(): number {
    return this.queues.reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  /** Sends the guest the first `length` bytes of the dispatcher's reply. */
  answer(length: number, origin: Origin): void {
    const { queue, head } = origin;
    try {
      if (queue.mapped) writeRoom(origin, this.#dispatcher.reply.bytes, length, this.memory);
      queue.give(head, length);
      if (length >= LONG_ANSWER) queue.tell();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Tells the guest of its answers. */
  tell(): void {
    for (const queue of this.queues) queue.tell();
  }

  /** Asks the guest to kick from now on; true when it has asked something meanwhile. */
  wantKicks(): boolean {
    let waiting = false;
    for (const queue of this.queues) {
      if (queue.running && queue.wantKicks(true) && this.#inFlight < MAX_IN_FLIGHT) waiting = true;
    }
    return waiting;
  }

  /** Looks again for the rings, after they or the memory have been changed. */
  map(queues: readonly Virtqueue[] = this.queues): void {
    if (this.#broken) return;
    try {
      for (const queue of queues) queue.map(this.memory);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Lets go of the guest's memory, so that it can be changed. */
  unmap(): void {
    for (const queue of this.queues) queue.unmap();
  }

  /** Stops a queue, when what it has asked has been answered. */
  stopQueue(queue: Virtqueue, stopped: (nextAvailable: number) => void): void {
    queue.setKick(-1);
    this.#stopping.push({ queue, until: performance.now() + STOP_MS, stopped });
    this.finishStopping();
  }

  /** Whether queues wait to be stopped. */
  get stopping(): boolean {
    return this.#stopping.length > 0;
  }

  /** Stops the queues that can be, or that have waited long enough. */
  finishStopping(): void {
    for (const one of this.#stopping.splice(0)) {
      const { queue, until, stopped } = one;
      if (queue.mapped && queue.inFlight > 0 && performance.now() < until) {
        this.#stopping.push(one);
        continue;
      }
      this.#dispatcher.giveUp((origin) => origin.queue === queue);
      const { nextAvailable } = queue;
      queue.stop();
      this.#mend();
      stopped(nextAvailable);
    }
  }

  /** Stops all queues at once. */
  reset(): void {
    this.#dispatcher.giveUp(() => true);
    for (const queue of this.queues) queue.stop();
    this.#mend();
  }

  /** A device that was reset begins anew. */
  #mend(): void {
    if (!this.queues.some(({ placed }) => placed)) this.#broken = false;
  }

  /** Ends the device until it is reset. */
  #fail(error: unknown): void {
    if (this.#broken) return;
    this.#broken = true;
    log.error('the guest gets no answers until it resets the device', { error: messageOf(error) });
    this.unmap();
    for (const queue of this.queues) queue.fail();
    this.#dispatcher.giveUp(() => true);
  }

  /** Ends it for good. */
  close(): void {
    this.unmap();
    this.#dispatcher.giveUp(() => true);
    for (const queue of this.queues) queue.close();
    this.memory.clear();
  }
}
