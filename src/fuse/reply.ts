import type { Attributes, Listing, Usage } from '../fs/file-system.ts';
import { ERRNO } from '../fs/file-system.ts';
import type { Owner } from '../fs/stat.ts';
import { blocksOf, STAT } from '../fs/stat.ts';
import * as fuse from './protocol.ts';

/** Writes the bodies of replies. Every method gives the length that it wrote at `at`. */
export class Reply {
  #out: Buffer = Buffer.alloc(0);
  #view: DataView = new DataView(this.#out.buffer);
  readonly #owner: Owner;

  /** `owner`: of every node. */
  constructor(owner: Owner) {
    this.#owner = owner;
  }

  /** Replies go into this buffer from now on. */
  into(out: Buffer): void {
    if (this.#out === out) return;
    this.#out = out;
    this.#view = new DataView(out.buffer, out.byteOffset, out.length);
  }

  /** `fuse_entry_out` of a node: known for ever. */
  entry(at: number, attributes: Attributes): number {
    this.#u64(at, attributes.id);
    this.#u64(at + 8, attributes.generation);
    this.#u64(at + 16, fuse.FOREVER);
    this.#u64(at + 24, fuse.FOREVER);
    this.#u64(at + 32, 0);
    this.#attributes(at + 40, attributes);
    return fuse.ENTRY_LENGTH;
  }

  /** `fuse_entry_out` of a name that is absent for ever: node 0. */
  absentEntry(at: number): number {
    this.#out.fill(0, at, at + fuse.ENTRY_LENGTH);
    this.#u64(at + 16, fuse.FOREVER);
    return fuse.ENTRY_LENGTH;
  }

  /** `fuse_attr_out`. */
  attributes(at: number, attributes: Attributes): number {
    this.#u64(at, fuse.FOREVER);
    this.#u64(at + 8, 0);
    this.#attributes(at + 16, attributes);
    return fuse.ATTR_OUT_LENGTH;
  }

  /** `fuse_attr`. */
  #attributes(at: number, { inodeLow, inodeHigh, mode, size }: Attributes): void {
    this.#view.setUint32(at, inodeLow, true);
    this.#view.setUint32(at + 4, inodeHigh, true);
    this.#u64(at + 8, size);
    this.#u64(at + 16, blocksOf(mode, size));
    this.#u64(at + 24, STAT.time);
    this.#u64(at + 32, STAT.time);
    this.#u64(at + 40, STAT.time);
    this.#u64(at + 48, 0);
    this.#view.setUint32(at + 56, 0, true);
    this.#view.setUint32(at + 60, mode, true);
    this.#view.setUint32(at + 64, STAT.links, true);
    this.#view.setUint32(at + 68, this.#owner.uid, true);
    this.#view.setUint32(at + 72, this.#owner.gid, true);
    this.#view.setUint32(at + 76, 0, true);
    this.#view.setUint32(at + 80, STAT.blockSize, true);
    this.#view.setUint32(at + 84, 0, true);
  }

  /** `fuse_statx_out`: all that a node has, whatever was asked. */
  statx(at: number, { inodeLow, inodeHigh, mode, size }: Attributes): number {
    this.#out.fill(0, at, at + fuse.STATX_OUT_LENGTH);
    this.#u64(at, fuse.FOREVER);
    const stat = at + 32;
    this.#view.setUint32(stat, fuse.STATX_KNOWN, true);
    this.#view.setUint32(stat + 4, STAT.blockSize, true);
    this.#view.setUint32(stat + 16, STAT.links, true);
    this.#view.setUint32(stat + 20, this.#owner.uid, true);
    this.#view.setUint32(stat + 24, this.#owner.gid, true);
    this.#view.setUint16(stat + 28, mode, true);
    this.#view.setUint32(stat + 32, inodeLow, true);
    this.#view.setUint32(stat + 36, inodeHigh, true);
    this.#u64(stat + 40, size);
    this.#u64(stat + 48, blocksOf(mode, size));
    // Access, birth, change, modification.
    for (let time = stat + 64; time < stat + 128; time += 16) this.#u64(time, STAT.time);
    return fuse.STATX_OUT_LENGTH;
  }

  /** `fuse_open_out`, without a handle. */
  opened(at: number, flags: number): number {
    this.#u64(at, 0);
    this.#u64(at + 8, flags);
    return fuse.OPEN_OUT_LENGTH;
  }

  /** `fuse_statfs_out`. */
  statfs(at: number, usage: Usage): number {
    this.#out.fill(0, at, at + fuse.STATFS_LENGTH);
    this.#u64(at, usage.blocks);
    this.#u64(at + 8, usage.free);
    this.#u64(at + 16, usage.free);
    this.#view.setUint32(at + 40, usage.blockSize, true);
    this.#view.setUint32(at + 44, STAT.nameLength, true);
    this.#view.setUint32(at + 48, usage.blockSize, true);
    return fuse.STATFS_LENGTH;
  }

  /** `fuse_getxattr_out`: the length of a value that is not asked for yet. */
  xattrLength(at: number, length: number): number {
    this.#view.setUint32(at, length, true);
    this.#view.setUint32(at + 4, 0, true);
    return 8;
  }

  /**
   * As many `fuse_dirent`s, or with `plus` `fuse_direntplus`es, as fit into `room`. Each of the latter counts
   * as a lookup of the entry, but for the dots. `start` is a multiple of 8.
   */
  listing(start: number, room: number, listing: Listing, plus: boolean, attributes: Attributes): number {
    const end = start + room;
    const prefix = plus ? fuse.ENTRY_LENGTH : 0;
    let at = start;
    while (listing.advance()) {
      const { nameStart, nameEnd, bytes, cookie } = listing;
      const length = nameEnd - nameStart;
      const dirent = at + prefix;
      const padded = (dirent + fuse.DIRENT_LENGTH + length + 7) & ~7;
      if (padded > end) {
        // An empty answer would mean the end.
        if (at === start) return -ERRNO.EINVAL;
        break;
      }
      const isDots = cookie <= 2;
      if (isDots || !plus) listing.inode(attributes);
      if (plus) {
        if (isDots) this.#out.fill(0, at, dirent);
        else {
          const error = listing.acquire(attributes);
          if (error === -ERRNO.ENOENT || error === -ERRNO.EOVERFLOW) {
            // What has just gone, or cannot be shown, is listed by its name alone.
            this.#out.fill(0, at, dirent);
            listing.inode(attributes);
          } else if (error < 0) return at > start ? at - start : error;
          else this.entry(at, attributes);
        }
      }
      this.#view.setUint32(dirent, attributes.inodeLow, true);
      this.#view.setUint32(dirent + 4, attributes.inodeHigh, true);
      this.#u64(dirent + 8, cookie);
      this.#view.setUint32(dirent + 16, length, true);
      this.#view.setUint32(dirent + 20, listing.type, true);
      const nameAt = dirent + fuse.DIRENT_LENGTH;
      for (let i = 0; i < length; i++) this.#out[nameAt + i] = bytes[nameStart + i]!;
      this.#out.fill(0, nameAt + length, padded);
      at = padded;
    }
    return at - start;
  }

  #u64(at: number, value: number): void {
    this.#view.setUint32(at, value >>> 0, true);
    this.#view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
  }
}
