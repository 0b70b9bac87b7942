import { closeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { OP } from '../../src/fuse/opcodes.ts';
import { IN_HEADER_LENGTH, OUT_HEADER_LENGTH } from '../../src/fuse/protocol.ts';
import { DESCRIPTOR, FEATURES, PROTOCOL_FEATURES, REQUEST } from '../../src/fuse/vhost/protocol.ts';
import { makeEventfd, raiseEventfd } from '../../src/util/system/eventfd.ts';
import { longs, mapFile, memoryFile, VhostFrontEnd, wasRaised, words } from './vhost-front-end.ts';

const MIB = 1 << 20;
const NEED_REPLY = 1 | (1 << 3);
const LONGEST_MS = 10_000;

/** Where the guest's memory begins for the guest, and for the front end. */
export const GUEST_BASE = 0x1_0000_0000;
export const USER_BASE = 0x7f00_0000_0000;
export const MEMORY_LENGTH = 6 * MIB;
/** Bytes in the same file, before and behind the guest's memory, that are not the guest's. */
export const MARGIN = 256 * 1024;
export const RING_LENGTH = 64;
/** Queues: what is urgent, and two for requests. */
export const QUEUE_COUNT = 3;
/** What fills everything that is not the guest's. */
export const SENTINEL = 0x5a;
/** Each queue has its ring in a part of its own; then follow the places of requests. */
const RINGS_LENGTH = 64 * 1024;
const AVAILABLE_AT = 4096;
const USED_AT = 8192;
const PLACES_AT = 256 * 1024;
const PLACE_LENGTH = 160 * 1024;
const TABLE_AT = 8 * 1024;
const ROOM_AT = 16 * 1024;
const PLACES = 32;
const PAGE = 4096;

export interface Descriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

export interface Reply {
  /** 0, or a negated errno. */
  readonly error: number;
  readonly body: Buffer;
  /** What the ring says of its length. */
  readonly length: number;
}

export interface AskOptions {
  readonly queue?: number;
  /** Whether the chain stands in a table outside of the ring. */
  readonly indirect?: boolean;
}

interface Queue {
  readonly kick: number;
  readonly call: number;
  readonly error: number;
  nextAvailable: number;
  nextUsed: number;
}

/** A guest and its virtual machine's program in one, without a virtual machine. */
export class FakeGuest {
  readonly frontEnd: VhostFrontEnd;
  readonly queues: Queue[] = [];
  readonly #file = memoryFile(MARGIN + MEMORY_LENGTH + MARGIN);
  /** All of the file; the guest's memory is the middle of it. */
  readonly #all = mapFile(this.#file, MARGIN + MEMORY_LENGTH + MARGIN);
  readonly memory: Buffer = this.#all.subarray(MARGIN, MARGIN + MEMORY_LENGTH);
  readonly #half = new Uint16Array(this.memory.buffer, this.memory.byteOffset, MEMORY_LENGTH / 2);
  /** Answers that have come, by queue and head. */
  readonly #answers = new Map<string, number>();
  readonly #freePlaces = Array.from({ length: PLACES }, (_, i) => i);
  #unique = 2;

  private constructor(path: string) {
    this.frontEnd = new VhostFrontEnd(path);
    this.#all.fill(SENTINEL, 0, MARGIN).fill(SENTINEL, MARGIN + MEMORY_LENGTH);
  }

  /** Connects and sets up the device, as QEMU does. */
  static async connect(path: string): Promise<FakeGuest> {
    const guest = new FakeGuest(path);
    await guest.#negotiate();
    await guest.setMemory();
    guest.setUpQueues();
    return guest;
  }

  async #negotiate(): Promise<void> {
    await this.frontEnd.ask(REQUEST.GET_FEATURES);
    await this.frontEnd.ask(REQUEST.GET_PROTOCOL_FEATURES);
    this.frontEnd.send(REQUEST.SET_PROTOCOL_FEATURES, longs(PROTOCOL_FEATURES));
    this.frontEnd.send(REQUEST.SET_OWNER);
    this.frontEnd.send(REQUEST.SET_FEATURES, longs(FEATURES));
  }

  /** A memory region as messages have it. */
  region(overrides: { guest?: number; length?: number; user?: number; offset?: number } = {}): Buffer {
    const { guest = GUEST_BASE, length = MEMORY_LENGTH, user = USER_BASE, offset = MARGIN } = overrides;
    return longs(guest, length, user, offset);
  }

  /** Sends the memory table; resolves when it is in force. */
  async setMemory(...regions: Buffer[]): Promise<void> {
    const table = regions.length > 0 ? regions : [this.region()];
    const payload = Buffer.concat([words(table.length, 0), ...table]);
    const files = table.map(() => this.#file);
    await this.frontEnd.ask(REQUEST.SET_MEM_TABLE, payload, files, NEED_REPLY);
  }

  async addMemory(region = this.region()): Promise<void> {
    const payload = Buffer.concat([longs(0), region]);
    await this.frontEnd.ask(REQUEST.ADD_MEM_REG, payload, [this.#file], NEED_REPLY);
  }

  async removeMemory(region = this.region()): Promise<void> {
    await this.frontEnd.ask(REQUEST.REM_MEM_REG, Buffer.concat([longs(0), region]), [], NEED_REPLY);
  }

  setUpQueues(): void {
    for (let i = 0; i < QUEUE_COUNT; i++) this.setUpQueue(i);
  }

  /** Makes the ring of a queue anew, as a driver that starts, and has it served. */
  setUpQueue(index: number): void {
    const base = index * RINGS_LENGTH;
    this.memory.fill(0, base, base + RINGS_LENGTH);
    this.queues[index] ??= {
      kick: makeEventfd(),
      call: makeEventfd(),
      error: makeEventfd(),
      nextAvailable: 0,
      nextUsed: 0,
    };
    Object.assign(this.queues[index]!, { nextAvailable: 0, nextUsed: 0 });
    this.startQueue(index);
  }

  /** Has a queue served from where it stands. */
  startQueue(index: number, from = this.queues[index]!.nextAvailable): void {
    const { kick, call, error } = this.queues[index]!;
    this.frontEnd.send(REQUEST.SET_VRING_NUM, words(index, RING_LENGTH));
    this.frontEnd.send(REQUEST.SET_VRING_BASE, words(index, from));
    this.placeQueue(index);
    this.frontEnd.sendEventfd(REQUEST.SET_VRING_ERR, index, error);
    this.frontEnd.sendEventfd(REQUEST.SET_VRING_CALL, index, call);
    this.frontEnd.sendEventfd(REQUEST.SET_VRING_KICK, index, kick);
    this.frontEnd.send(REQUEST.SET_VRING_ENABLE, words(index, 1));
  }

  placeQueue(index: number, user = USER_BASE + index * RINGS_LENGTH): void {
    const addresses = longs(user, user + USED_AT, user + AVAILABLE_AT, 0);
    this.frontEnd.send(REQUEST.SET_VRING_ADDR, Buffer.concat([words(index, 0), addresses]));
  }

  /** Stops a queue; gives where it stands. */
  async stopQueue(index: number): Promise<number> {
    this.frontEnd.send(REQUEST.SET_VRING_ENABLE, words(index, 0));
    return (await this.frontEnd.ask(REQUEST.GET_VRING_BASE, words(index, 0))).readUInt32LE(4);
  }

  /** Does what a guest that starts again makes QEMU do. */
  async reset(): Promise<void> {
    for (let i = 0; i < QUEUE_COUNT; i++) await this.stopQueue(i);
    this.#answers.clear();
    this.setUpQueues();
  }

  writeDescriptor(queue: number, index: number, descriptor: Descriptor): void {
    this.writeDescriptorAt(queue * RINGS_LENGTH + 16 * index, descriptor);
  }

  writeDescriptorAt(at: number, { address, length, flags, next }: Descriptor): void {
    longs(address).copy(this.memory, at);
    this.memory.writeUInt32LE(length, at + 8);
    this.memory.writeUInt16LE(flags, at + 12);
    this.memory.writeUInt16LE(next, at + 14);
  }

  /** Makes requests available by their heads, and kicks. `claimed` of them, if that is to be a lie. */
  submit(index: number, heads: readonly number[], claimed = heads.length): void {
    const queue = this.queues[index]!;
    const ring = (index * RINGS_LENGTH + AVAILABLE_AT) / 2;
    for (const [i, head] of heads.entries()) {
      this.#half[ring + 2 + ((queue.nextAvailable + i) % RING_LENGTH)] = head;
    }
    queue.nextAvailable = (queue.nextAvailable + claimed) & 0xffff;
    Atomics.store(this.#half, ring + 1, queue.nextAvailable);
    raiseEventfd(queue.kick);
  }

  /** Takes the answers that have come in a queue. */
  collect(index: number): { head: number; length: number }[] {
    const queue = this.queues[index]!;
    const base = index * RINGS_LENGTH + USED_AT;
    const found: { head: number; length: number }[] = [];
    for (
      ;
      Atomics.load(this.#half, base / 2 + 1) !== queue.nextUsed;
      queue.nextUsed = (queue.nextUsed + 1) & 0xffff
    ) {
      const at = base + 4 + 8 * (queue.nextUsed % RING_LENGTH);
      found.push({ head: this.memory.readUInt32LE(at), length: this.memory.readUInt32LE(at + 4) });
    }
    return found;
  }

  /** Whether the device has told that a queue has failed, since the last time. */
  hasFailed(): boolean {
    return this.queues.filter(({ error }) => wasRaised(error)).length > 0;
  }

  /** Whether everything that is not the guest's is as it was. */
  isContained(): boolean {
    const clean = Buffer.alloc(MARGIN, SENTINEL);
    return [0, MARGIN + MEMORY_LENGTH].every((at) => clean.equals(this.#all.subarray(at, at + MARGIN)));
  }

  /** Asks something as Linux does, with a page for each descriptor, and waits for the answer. */
  async ask(
    opcode: number,
    node: number,
    args: Buffer,
    room: number,
    { queue = 1, indirect = true }: AskOptions = {},
  ): Promise<Reply> {
    const place = this.#freePlaces.shift()!;
    const at = PLACES_AT + place * PLACE_LENGTH;
    const header = Buffer.concat([
      words(IN_HEADER_LENGTH + args.length, opcode),
      longs(this.#unique, node),
      Buffer.alloc(16),
    ]);
    const unique = this.#unique;
    this.#unique += 2;
    Buffer.concat([header, args]).copy(this.memory, at);
    const parts: [number, number, number][] = [[at, header.length, 0]];
    if (args.length > 0) parts.push([at + header.length, args.length, 0]);
    if (room >= 0) parts.push([at + ROOM_AT, OUT_HEADER_LENGTH, DESCRIPTOR.WRITE]);
    for (let done = 0; done < room; done += PAGE) {
      parts.push([at + ROOM_AT + OUT_HEADER_LENGTH + done, Math.min(PAGE, room - done), DESCRIPTOR.WRITE]);
    }
    // A table in the ring itself takes its beginning: then nothing else may be under way.
    const table = indirect ? at + TABLE_AT : queue * RINGS_LENGTH;
    const head = indirect ? place : 0;
    for (const [i, [address, length, write]] of parts.entries()) {
      const flags = write | (i < parts.length - 1 ? DESCRIPTOR.NEXT : 0);
      this.writeDescriptorAt(table + 16 * i, { address: GUEST_BASE + address, length, flags, next: i + 1 });
    }
    if (indirect) {
      const [address, length] = [GUEST_BASE + table, 16 * parts.length];
      this.writeDescriptor(queue, head, { address, length, flags: DESCRIPTOR.INDIRECT, next: 0 });
    }
    this.submit(queue, [head]);
    const length = await this.#answer(queue, head);
    const bytes = Buffer.from(this.memory.subarray(at + ROOM_AT, at + ROOM_AT + length));
    this.#freePlaces.unshift(place);
    if (length === 0) return { error: 0, body: bytes, length };
    if (bytes.readUInt32LE(0) !== length || Number(bytes.readBigUInt64LE(8)) !== unique) {
      throw new Error(`an answer of ${length} bytes begins with ${bytes.toString('hex', 0, 16)}`);
    }
    return { error: bytes.readInt32LE(4), body: bytes.subarray(OUT_HEADER_LENGTH), length };
  }

  /** Mounts; gives the flags that the file system wants, and the open flags. */
  async init(): Promise<Reply> {
    return this.ask(OP.INIT, 0, Buffer.concat([words(7, 38, 131072, 0xfffffffb), Buffer.alloc(48)]), 64);
  }

  /** Looks a path up from the root; gives the node's id. */
  async lookUp(...names: string[]): Promise<number> {
    let node = 1;
    for (const name of names) {
      const { error, body } = await this.ask(OP.LOOKUP, node, Buffer.from(`${name}\0`), 128);
      if (error !== 0) throw new Error(`looking up ${name} gives ${error}`);
      node = Number(body.readBigUInt64LE(0));
    }
    return node;
  }

  /** Reads part of a file. */
  read(node: number, offset: number, length: number, options?: AskOptions): Promise<Reply> {
    const args = Buffer.concat([longs(0, offset), words(length, 0), longs(0), words(0, 0)]);
    return this.ask(OP.READ, node, args, length, options);
  }

  disconnect(): void {
    this.frontEnd.close();
    for (const { kick, call, error } of this.queues) for (const fd of [kick, call, error]) closeSync(fd);
    closeSync(this.#file);
  }

  async #answer(queue: number, head: number): Promise<number> {
    const key = `${queue}:${head}`;
    const late = Date.now() + LONGEST_MS;
    for (;;) {
      for (const answer of this.collect(queue)) this.#answers.set(`${queue}:${answer.head}`, answer.length);
      const length = this.#answers.get(key);
      if (length !== undefined) {
        this.#answers.delete(key);
        return length;
      }
      if (this.hasFailed()) throw new Error('the device has failed');
      if (Date.now() > late) throw new Error('no answer came');
      await setImmediate();
    }
  }
}
