import { invalid } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Message } from './connection.ts';
import { Connection } from './connection.ts';
import type { GuestDevice } from './device.ts';
import type { RegionDescription } from './memory.ts';
import * as vhost from './protocol.ts';
import { REQUEST } from './protocol.ts';
import { Virtqueue } from './queue.ts';

/** Answers to the front end's questions about this device. */
const ANSWERS = new Map<number, bigint>([
  [REQUEST.GET_FEATURES, vhost.FEATURES],
  [REQUEST.GET_PROTOCOL_FEATURES, vhost.PROTOCOL_FEATURES],
  [REQUEST.GET_QUEUE_NUM, BigInt(vhost.MAX_QUEUES)],
  [REQUEST.GET_MAX_MEM_SLOTS, BigInt(vhost.MAX_REGIONS)],
]);

/** The virtual machine's program (QEMU and the like) that sets up the device of its guest. */
export class FrontEnd {
  readonly connection: Connection;
  readonly #device: GuestDevice;
  /** Whether it wants to know that its messages have been taken in. */
  #acknowledges = false;

  constructor(fd: number, device: GuestDevice) {
    this.connection = new Connection(fd);
    this.#device = device;
  }

  /** Takes what it has sent; false when it has gone. Throws when it makes no sense. */
  receive(): boolean {
    return this.connection.receive((message) => this.#take(message));
  }

  #take(message: Message): void {
    const { request, needsReply, payload, descriptors } = message;
    log.debug('vhost-user', { request, length: payload.length, descriptors: descriptors.length });
    const constant = ANSWERS.get(request);
    if (constant !== undefined) this.#reply(request, constant);
    // It is answered when the queue has stopped.
    else if (request === REQUEST.GET_VRING_BASE) this.#stopQueue(payload);
    else {
      this.#apply(message);
      if (needsReply && this.#acknowledges) this.#reply(request, 0n);
    }
  }

  #apply(message: Message): void {
    const { request, payload, descriptors } = message;
    switch (request) {
      case REQUEST.SET_OWNER:
        break;
      case REQUEST.SET_FEATURES:
        checkFeatures(u64(payload, 0));
        break;
      case REQUEST.SET_PROTOCOL_FEATURES:
        this.#acknowledges = hasBit(u64(payload, 0), vhost.PROTOCOL_FEATURE.REPLY_ACK);
        break;
      case REQUEST.RESET_OWNER:
      case REQUEST.RESET_DEVICE:
        this.#device.reset();
        break;
      case REQUEST.SET_MEM_TABLE:
        this.#replaceMemory(payload, descriptors);
        break;
      case REQUEST.ADD_MEM_REG:
        this.#device.memory.add(region(payload, vhost.REGIONS_AT), descriptors[0] ?? -1);
        break;
      case REQUEST.REM_MEM_REG:
        this.#device.unmap();
        this.#device.memory.remove(region(payload, vhost.REGIONS_AT));
        this.#device.map();
        break;
      default:
        this.#setUp(this.#queue(payload), message);
    }
  }

  /** Takes a message about a queue. */
  #setUp(queue: Virtqueue, { request, payload, descriptors }: Message): void {
    switch (request) {
      case REQUEST.SET_VRING_ENABLE:
        queue.enabled = u32(payload, 4) !== 0;
        break;
      case REQUEST.SET_VRING_BASE:
        queue.nextAvailable = u32(payload, 4) & 0xffff;
        break;
      case REQUEST.SET_VRING_NUM:
        queue.resize(u32(payload, 4));
        this.#device.map([queue]);
        break;
      case REQUEST.SET_VRING_ADDR:
        queue.place({
          descriptors: Number(u64(payload, 8)),
          used: Number(u64(payload, 16)),
          available: Number(u64(payload, 24)),
        });
        this.#device.map([queue]);
        break;
      case REQUEST.SET_VRING_KICK:
        queue.setKick(eventOf(payload, descriptors));
        break;
      case REQUEST.SET_VRING_CALL:
        queue.setCall(eventOf(payload, descriptors));
        break;
      case REQUEST.SET_VRING_ERR:
        queue.setError(eventOf(payload, descriptors));
        break;
      default:
        throw invalid(`message ${request} was not agreed on`);
    }
  }

  #replaceMemory(payload: Buffer, descriptors: readonly number[]): void {
    const count = u32(payload, 0);
    if (count !== descriptors.length)
      throw invalid(`${descriptors.length} files for ${count} memory regions`);
    this.#device.unmap();
    this.#device.memory.clear();
    for (const [i, fd] of descriptors.entries()) {
      this.#device.memory.add(region(payload, vhost.REGIONS_AT + i * vhost.REGION_LENGTH), fd);
    }
    this.#device.map();
  }

  #stopQueue(payload: Buffer): void {
    const index = u32(payload, 0);
    this.#device.stopQueue(this.#queue(payload), (nextAvailable) => {
      const state = Buffer.alloc(8);
      state.writeUInt32LE(index, 0);
      state.writeUInt32LE(nextAvailable, 4);
      this.connection.reply(REQUEST.GET_VRING_BASE, state);
    });
  }

  /** The queue that a message is about. */
  #queue(payload: Buffer): Virtqueue {
    const index = u32(payload, 0) & vhost.QUEUE_INDEX_MASK;
    if (index >= vhost.MAX_QUEUES) throw invalid(`there is no queue ${index}`);
    const { queues } = this.#device;
    while (queues.length <= index) queues.push(new Virtqueue());
    return queues[index]!;
  }

  #reply(request: number, value: bigint): void {
    const payload = Buffer.alloc(8);
    payload.writeBigUInt64LE(value);
    this.connection.reply(request, payload);
  }
}

function checkFeatures(features: bigint): void {
  if ((features & ~vhost.FEATURES) !== 0n) throw invalid('features are wanted that are not offered');
  // Else queues would be enabled from the start.
  if (!hasBit(features, vhost.FEATURE.PROTOCOL_FEATURES)) {
    throw invalid('VHOST_USER_F_PROTOCOL_FEATURES is needed');
  }
}

function hasBit(features: bigint, bit: number): boolean {
  return ((features >> BigInt(bit)) & 1n) === 1n;
}

function region(payload: Buffer, at: number): RegionDescription {
  const [guest, length, user, offset] = [0, 8, 16, 24].map((word) => Number(u64(payload, at + word)));
  return { guest: guest!, length: length!, user: user!, offset: offset! };
}

/** Takes the eventfd that came with a message; -1 when there is none. */
function eventOf(payload: Buffer, descriptors: number[]): number {
  if ((u32(payload, 0) & vhost.NO_DESCRIPTOR) !== 0) return -1;
  const fd = descriptors.shift();
  if (fd === undefined) throw invalid('an eventfd is missing');
  return fd;
}

function u64(payload: Buffer, at: number): bigint {
  if (payload.length < at + 8) throw invalid('a message is too short');
  return payload.readBigUInt64LE(at);
}

function u32(payload: Buffer, at: number): number {
  if (payload.length < at + 4) throw invalid('a message is too short');
  return payload.readUInt32LE(at);
}
