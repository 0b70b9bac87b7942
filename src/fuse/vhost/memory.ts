import { fstatSync } from 'node:fs';
import { invalid } from '../../util/errors.ts';
import { errno, errnoName, libc, memoryAt } from '../../util/system/libc.ts';
import { MAX_REGIONS } from './protocol.ts';

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
/**
 * Memory is looked at through buffers of this length, made when first needed: one of more than 4 GiB would
 * end the process.
 */
const WINDOW = 2 ** 30;

/** Part of a guest's memory, as the front end describes it. */
export interface RegionDescription {
  /** Physical address in the guest. */
  readonly guest: number;
  readonly length: number;
  /** Address in the front end, by which it names where rings lie. */
  readonly user: number;
  /** Where it begins in the file that comes with it. */
  readonly offset: number;
}

interface Region extends RegionDescription {
  /** Where it lies in this process. */
  readonly address: number;
  readonly windows: (Buffer | undefined)[];
}

/** The memory of a guest. Nothing but what is mapped here can be reached through it. */
export class GuestMemory {
  #regions: Region[] = [];
  /** The region found last. */
  #last: Region | undefined;

  /** Maps a region of a file, whose descriptor is the caller's. Throws INVALID_ARGUMENT. */
  add(description: RegionDescription, fd: number): void {
    const { guest, length, user, offset } = description;
    const ends = [guest + length, user + length, offset + length];
    if (length <= 0 || !ends.every(Number.isSafeInteger)) throw invalid('there is no such memory region');
    if (this.#regions.length >= MAX_REGIONS)
      throw invalid(`there are more than ${MAX_REGIONS} memory regions`);
    for (const other of this.#regions) {
      const overlap = (a: number, b: number) => a < b + other.length && b < a + length;
      if (overlap(guest, other.guest) || overlap(user, other.user)) throw invalid('memory regions overlap');
    }
    const file = fstatSync(fd);
    // Whoever touches memory behind the end of a file is killed.
    if (file.isFile() && offset + length > file.size)
      throw invalid('a memory region is larger than its file');
    const mapped = libc.mmap(0, offset + length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
    if (mapped === -1) throw invalid(`cannot map the memory of the guest: ${errnoName(errno())}`);
    this.#regions.push({ ...description, address: mapped + offset, windows: [] });
  }

  /** Unmaps a region. Nothing that `ring` gave of it may be used any more. */
  remove({ guest, length, user }: RegionDescription): void {
    const found = this.#regions.find(
      (region) => region.guest === guest && region.length === length && region.user === user,
    );
    if (!found) throw invalid('there is no such memory region to be removed');
    this.#regions = this.#regions.filter((region) => region !== found);
    this.#unmap(found);
  }

  /** Unmaps everything. Nothing that `ring` gave may be used any more. */
  clear(): void {
    for (const region of this.#regions.splice(0)) this.#unmap(region);
  }

  #unmap({ address, offset, length, windows }: Region): void {
    this.#last = undefined;
    windows.length = 0;
    libc.munmap(address - offset, offset + length);
  }

  /** The memory at an address of the front end, until its region is removed; `undefined` when there is none. */
  ring(user: number, length: number): ArrayBuffer | undefined {
    const region = this.#regions.find((one) => user >= one.user && user + length <= one.user + one.length);
    return region && memoryAt(region.address + user - region.user, length);
  }

  /** Copies `length` bytes of the guest's memory to `out[at]`. Throws INVALID_ARGUMENT outside of it. */
  read(guest: number, length: number, out: Buffer, at: number): void {
    for (let done = 0; done < length; ) {
      const { window, start } = this.#find(guest + done);
      done += window.copy(out, at + done, start, Math.min(window.length, start + length - done));
    }
  }

  /** Copies `bytes[from, from + length)` into the guest's memory. Throws INVALID_ARGUMENT outside of it. */
  write(guest: number, bytes: Buffer, from: number, length: number): void {
    for (let done = 0; done < length; ) {
      const { window, start } = this.#find(guest + done);
      done += bytes.copy(window, start, from + done, from + length);
    }
  }

  /** Throws INVALID_ARGUMENT when not all of this is the guest's memory. */
  check(guest: number, length: number): void {
    for (let done = 0; done < length; ) {
      const region = this.#regionAt(guest + done);
      done += region.guest + region.length - guest - done;
    }
  }

  readonly #found: { window: Buffer; start: number } = { window: Buffer.alloc(0), start: 0 };

  #find(guest: number): { window: Buffer; start: number } {
    const region = this.#regionAt(guest);
    const within = guest - region.guest;
    const index = Math.floor(within / WINDOW);
    let window = region.windows[index];
    if (!window) {
      const start = index * WINDOW;
      window = Buffer.from(memoryAt(region.address + start, Math.min(WINDOW, region.length - start)));
      region.windows[index] = window;
    }
    this.#found.window = window;
    this.#found.start = within - index * WINDOW;
    return this.#found;
  }

  #regionAt(guest: number): Region {
    const last = this.#last;
    if (last && guest >= last.guest && guest < last.guest + last.length) return last;
    const region = this.#regions.find((one) => guest >= one.guest && guest < one.guest + one.length);
    if (!region) throw invalid(`address 0x${guest.toString(16)} is outside of the guest's memory`);
    this.#last = region;
    return region;
  }
}
