import { closeSync } from 'node:fs';
import { invalid } from '../../util/errors.ts';
import { drainEventfd, raiseEventfd } from '../../util/system/eventfd.ts';
import type { GuestMemory } from './memory.ts';
import { DESCRIPTOR_LENGTH, MAX_RING, RING_QUIET } from './protocol.ts';

const NONE = -1;
/** Words of 16 bits in a ring before its entries: flags, index. */
const FLAGS = 0;
const INDEX = 1;
const ENTRIES = 2;

/** The parts of a ring, in the guest's memory. */
interface Rings {
  readonly descriptors: DataView;
  readonly available: Uint16Array;
  readonly used: Uint16Array;
  /** Pairs of a head and a length. */
  readonly usedEntries: Uint32Array;
}

/** Addresses of a ring's parts in the front end. */
export interface RingAddresses {
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
}

/** A virtqueue with a split ring. Nothing that the guest writes into it is trusted. */
export class Virtqueue {
  /** Entries of its ring. */
  length = 0;
  enabled = false;
  /** Where the next request is taken from the available ring, and where the next answer goes. */
  nextAvailable = 0;
  #nextUsed = 0;
  /** Requests that were taken and have not been answered. */
  inFlight = 0;
  #addresses: RingAddresses | undefined;
  #rings: Rings | undefined;
  #kick = NONE;
  #call = NONE;
  #error = NONE;
  /** Answers were given of which the guest has not been told. */
  #untold = false;

  /** The eventfd by which the guest tells of requests; -1 when there is none. */
  get kick(): number {
    return this.#kick;
  }

  /** Whether requests can be taken from it. */
  get running(): boolean {
    return this.#rings !== undefined && this.enabled && this.#kick !== NONE;
  }

  /** Whether the guest has said where its ring is. */
  get placed(): boolean {
    return this.#addresses !== undefined;
  }

  /** Whether its ring can be reached. */
  get mapped(): boolean {
    return this.#rings !== undefined;
  }

  /** To be mapped again after this. */
  resize(length: number): void {
    this.unmap();
    if (length < 1 || length > MAX_RING || (length & (length - 1)) !== 0) {
      throw invalid(`a ring cannot have ${length} entries`);
    }
    this.length = length;
  }

  /** Says where its parts lie. To be mapped after this. */
  place(addresses: RingAddresses): void {
    this.unmap();
    this.#addresses = addresses;
  }

  /** Lets go of the guest's memory. */
  unmap(): void {
    this.#rings = undefined;
  }

  /** Finds its parts in the guest's memory, if it has been placed. Throws INVALID_ARGUMENT. */
  map(memory: GuestMemory): void {
    if (!this.#addresses) return;
    const { descriptors, available, used } = this.#addresses;
    if (descriptors % 16 !== 0 || available % 2 !== 0 || used % 4 !== 0)
      throw invalid('a ring is not aligned');
    const part = (address: number, length: number): ArrayBuffer => {
      const bytes = memory.ring(address, length);
      if (!bytes) throw invalid("a ring is outside of the guest's memory");
      return bytes;
    };
    const usedPart = part(used, 4 + 8 * this.length);
    this.#rings = {
      descriptors: new DataView(part(descriptors, DESCRIPTOR_LENGTH * this.length)),
      available: new Uint16Array(part(available, 4 + 2 * this.length)),
      used: new Uint16Array(usedPart, 0, 2),
      usedEntries: new Uint32Array(usedPart, 4),
    };
    this.#nextUsed = this.#rings.used[INDEX]!;
  }

  setKick(fd: number): void {
    this.#kick = replaced(this.#kick, fd);
  }

  setCall(fd: number): void {
    this.#call = replaced(this.#call, fd);
    // What was told on the one before may not have been heard.
    this.#untold = true;
  }

  setError(fd: number): void {
    this.#error = replaced(this.#error, fd);
  }

  /** Takes in that the guest has kicked. */
  drainKick(): void {
    drainEventfd(this.#kick);
  }

  /** The table of descriptors that heads point into. */
  get descriptors(): DataView {
    return this.#rings!.descriptors;
  }

  /** Takes the head of the next request; -1 when there is none. Throws INVALID_ARGUMENT. */
  take(): number {
    const { available } = this.#rings!;
    const waiting = (Atomics.load(available, INDEX) - this.nextAvailable) & 0xffff;
    if (waiting === 0) return NONE;
    if (waiting > this.length) throw invalid(`a ring of ${this.length} entries claims ${waiting} requests`);
    if (this.inFlight >= this.length) throw invalid('a ring has more requests than entries');
    const head = available[ENTRIES + (this.nextAvailable & (this.length - 1))]!;
    this.nextAvailable = (this.nextAvailable + 1) & 0xffff;
    this.inFlight++;
    return head;
  }

  /** Asks the guest to kick, or not to: while its requests are looked for anyway. True if some are there. */
  wantKicks(wanted: boolean): boolean {
    const { available, used } = this.#rings!;
    Atomics.store(used, FLAGS, wanted ? 0 : RING_QUIET);
    return Atomics.load(available, INDEX) !== this.nextAvailable;
  }

  /** Gives a request back, with `length` bytes of an answer. */
  give(head: number, length: number): void {
    this.inFlight--;
    const rings = this.#rings;
    if (!rings) return;
    const at = 2 * (this.#nextUsed & (this.length - 1));
    rings.usedEntries[at] = head;
    rings.usedEntries[at + 1] = length;
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    Atomics.store(rings.used, INDEX, this.#nextUsed);
    this.#untold = true;
  }

  /** Tells the guest of the answers since the last time, if it wants to be told. */
  tell(): void {
    if (!this.#untold || !this.#rings || this.#call === NONE) return;
    this.#untold = false;
    if ((Atomics.load(this.#rings.available, FLAGS) & RING_QUIET) === 0) {
      raiseEventfd(this.#call);
    }
  }

  /** Tells the front end that this queue has failed. */
  fail(): void {
    if (this.#error !== NONE) raiseEventfd(this.#error);
  }

  /** Stops it: it has no ring and no kick any more. */
  stop(): void {
    this.unmap();
    this.#addresses = undefined;
    this.setKick(NONE);
    this.inFlight = 0;
  }

  /** Stops it for good. */
  close(): void {
    this.stop();
    this.setCall(NONE);
    this.setError(NONE);
  }
}

function replaced(before: number, fd: number): number {
  if (before !== NONE) closeSync(before);
  return fd;
}
