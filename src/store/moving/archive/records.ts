import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { Digest } from '../../../castore/digest.ts';
import { syncPath } from '../../../castore/local/chunk-files.ts';
import { requireRoom } from '../../../castore/local/reserve.ts';
import { damaged, reasonOf, StoreError, UsageError } from '../../../util/errors.ts';
import { lockDescriptor } from '../../../util/system/file-lock.ts';
import { writeFailure } from '../../../util/system/whole-file.ts';
import type { RecordHeader, RecordKind } from './format.ts';
import { decodeHeader, encodeHeader, HEADER_LENGTH, MAGIC, RECORD } from './format.ts';

/** A record where it lies in the file. */
export interface PlacedRecord extends RecordHeader {
  /** Of its payload. */
  readonly at: number;
}

/** The records of a backup file, to be read and added to. */
export class Records {
  readonly path: string;
  readonly #fd: number;
  #end = MAGIC.length;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /** Throws a UsageError for a file that is no backup. */
  static openToRead(path: string): Records {
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch (error) {
      throw new StoreError('NOT_FOUND', `cannot read the backup ${path}: ${reasonOf(error)}`, {
        cause: error,
      });
    }
    return new Records(path, fd).#checked(false);
  }

  /** Makes the file where there is none. Throws UNAVAILABLE when another backup is being added to it. */
  static openToAdd(path: string): Records {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    } catch (error) {
      throw writeFailure(path, error);
    }
    if (lockDescriptor(fd, 'exclusive')) return new Records(path, fd).#checked(true);
    closeSync(fd);
    throw new StoreError('UNAVAILABLE', `another process writes into ${path}`);
  }

  #checked(isNewAllowed: boolean): this {
    const { size } = fstatSync(this.#fd);
    if (isNewAllowed && size === 0) this.#write(0, MAGIC);
    else if (!this.#read(0, Math.min(size, MAGIC.length)).equals(MAGIC)) {
      closeSync(this.#fd);
      throw new UsageError(`${this.path} is not a backup that tvix-store has made`);
    }
    return this;
  }

  /** The headers of all records that are whole, in order. What comes behind them is cut off by the next `add`. */
  *headers(): Generator<PlacedRecord> {
    const { size } = fstatSync(this.#fd);
    this.#end = MAGIC.length;
    while (this.#end + HEADER_LENGTH <= size) {
      const header = decodeHeader(this.#read(this.#end, HEADER_LENGTH));
      if (!header) return;
      const at = this.#end + HEADER_LENGTH;
      if (at + header.length > size) return;
      yield { ...header, at };
      this.#end = at + header.length;
    }
  }

  /** The same to be added to: what no backup has come to its end behind may never have reached the disk, and is read. */
  *headersToAddTo(): Generator<PlacedRecord> {
    let synced = 0;
    for (const { kind, at } of this.headers()) if (kind === RECORD.end) synced = at;
    for (const record of this.headers()) {
      const isSound =
        record.at <= synced ||
        record.kind === RECORD.list ||
        Digest.hash(this.payload(record)).equals(record.digest);
      // The end stays in front of it.
      if (!isSound) return;
      yield record;
    }
  }

  /** Bytes of the file up to the end of its last whole record. */
  get size(): number {
    return this.#end;
  }

  /** Bytes behind the last whole record, once `headers` has come to its end. */
  get excess(): number {
    return fstatSync(this.#fd).size - this.#end;
  }

  payload({ at, length }: PlacedRecord): Buffer {
    return this.#read(at, length);
  }

  /** Adds a record behind those that `headers` has given. */
  add(kind: RecordKind, payload: Uint8Array, digest = Digest.hash(payload)): void {
    requireRoom(dirname(this.path), payload.length);
    if (this.excess > 0) ftruncateSync(this.#fd, this.#end);
    const header = encodeHeader({ kind, length: payload.length, digest });
    this.#write(this.#end, header);
    this.#write(this.#end + header.length, payload);
    this.#end += header.length + payload.length;
  }

  /** Everything that was added is on disk, and so is the name of the file. */
  sync(): void {
    fsyncSync(this.#fd);
    syncPath(dirname(this.path), fsyncSync);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #read(from: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; ) {
      const count = readSync(this.#fd, bytes, at, length - at, from + at);
      if (count === 0) throw damaged(`${this.path} was cut while it was read`);
      at += count;
    }
    return bytes;
  }

  #write(from: number, bytes: Uint8Array): void {
    try {
      for (let at = 0; at < bytes.length; )
        at += writeSync(this.#fd, bytes, at, bytes.length - at, from + at);
    } catch (error) {
      throw writeFailure(this.path, error);
    }
  }
}
