import { invalid } from '../../util/errors.ts';
import type { GuestMemory } from './memory.ts';
import { DESCRIPTOR, DESCRIPTOR_LENGTH } from './protocol.ts';
import type { Virtqueue } from './queue.ts';

/** Descriptors of a chain at most: the longest read has 258. */
const MAX_CHAIN = 1024;

/** Room for an answer: addresses in the guest, and lengths. */
export interface Room {
  readonly addresses: number[];
  readonly lengths: number[];
}

/** A request that a guest has made: which one it is, and where the answer goes. */
export interface Origin extends Room {
  readonly queue: Virtqueue;
  readonly head: number;
}

/**
 * Reads the chain of descriptors that begins at `head`: copies what is to be read into `out`, and notes in
 * `room` what is to be written. Gives the length of the former. All of it is the guest's to say, so it throws
 * INVALID_ARGUMENT for a chain that has no end, lies outside of memory, is too long, or is out of order.
 */
export function readChain(
  table: DataView,
  head: number,
  memory: GuestMemory,
  out: Buffer,
  room: Room,
): number {
  let entries = table;
  let index = head;
  let length = 0;
  for (let left = MAX_CHAIN; left > 0; left--) {
    const at = index * DESCRIPTOR_LENGTH;
    if (at + DESCRIPTOR_LENGTH > entries.byteLength) throw invalid(`there is no descriptor ${index}`);
    // Beyond 2^53 this is not exact, nor is there memory.
    const address = entries.getUint32(at, true) + entries.getUint32(at + 4, true) * 0x1_0000_0000;
    const size = entries.getUint32(at + 8, true);
    const flags = entries.getUint16(at + 12, true);
    index = entries.getUint16(at + 14, true);
    if ((flags & DESCRIPTOR.INDIRECT) !== 0) {
      if (entries !== table || (flags & DESCRIPTOR.NEXT) !== 0) throw invalid('a table within a chain');
      entries = readTable(address, size, memory);
      index = 0;
      continue;
    }
    if ((flags & DESCRIPTOR.WRITE) !== 0) {
      memory.check(address, size);
      room.addresses.push(address);
      room.lengths.push(size);
    } else {
      if (room.lengths.length > 0) throw invalid('something is to be read after what is to be written');
      if (length + size > out.length) throw invalid('a request is too long');
      memory.read(address, size, out, length);
      length += size;
    }
    if ((flags & DESCRIPTOR.NEXT) === 0) return length;
  }
  throw invalid('a chain of descriptors has no end');
}

/** A table that stands outside of the ring, as a copy. */
function readTable(address: number, size: number, memory: GuestMemory): DataView {
  if (size === 0 || size % DESCRIPTOR_LENGTH !== 0 || size > MAX_CHAIN * DESCRIPTOR_LENGTH) {
    throw invalid(`a table of descriptors cannot have ${size} bytes`);
  }
  const bytes = Buffer.allocUnsafe(size);
  memory.read(address, size, bytes, 0);
  return new DataView(bytes.buffer, bytes.byteOffset, size);
}

/** Writes `bytes[0, length)` into the room. Throws INVALID_ARGUMENT when it does not fit. */
export function writeRoom(
  { addresses, lengths }: Room,
  bytes: Buffer,
  length: number,
  memory: GuestMemory,
): void {
  let done = 0;
  for (let i = 0; done < length && i < lengths.length; i++) {
    const part = Math.min(lengths[i]!, length - done);
    memory.write(addresses[i]!, bytes, done, part);
    done += part;
  }
  if (done < length) throw invalid(`there is room for ${done} bytes of an answer of ${length}`);
}
