import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { link, open, readdir, readFile, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { damaged, isAbsence, messageOf, reasonOf, StoreError, systemCode } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { lockDescriptor, readLocked } from '../../util/system/file-lock.ts';
import { makeDirectory } from '../../util/system/make-directory.ts';
import { writeWholeFile } from '../../util/system/whole-file.ts';
import { Digest } from '../digest.ts';
import type { Condition, ListedObject, ObjectFacts, ObjectStore, StoredObject } from './object-store.ts';

const LOCK_WAIT_MS = 5;
const LOCK_TRIES = 3;
/** The lock of those who replace an object. */
const LOCK = 'lock';
/**
 * Where objects are written before they get their name: a folder with a marker that says whose it is, and files that
 * their writers hold a lock on (`flock`, freed by the kernel when the process ends).
 */
const UNFINISHED = '.tvix-store-unfinished';
const MARKER = 'marker';
const MARKER_TEXT = 'tvix-store: objects that are being written\n';
const UNFINISHED_NAME = /^[0-9a-f]{32}$/;

/** Objects as files below a directory, in the layout of a bucket; for any number of processes at once. */
export class FileObjectStore implements ObjectStore {
  readonly address: string;
  readonly isFar = false;
  readonly #dir: string;
  #prepared: Promise<void> | undefined;

  private constructor(dir: string) {
    this.#dir = dir;
    this.address = `objectstore+${pathToFileURL(dir)}`;
  }

  /** Throws FAILED_PRECONDITION for a directory that cannot be used; one is made only for `create`. */
  static async open(dir: string, create: boolean): Promise<FileObjectStore> {
    const store = new FileObjectStore(dir);
    try {
      if (create) makeDirectory(dir);
      await readdir(dir);
    } catch (error) {
      const why = systemCode(error) === 'ENOENT' ? 'there is no such directory' : reasonOf(error);
      throw new StoreError('FAILED_PRECONDITION', `${store.address}: ${why}`, { cause: error });
    }
    return store;
  }

  /** Before the first write: makes the folder of what is unfinished, and takes away what killed writers left there. */
  async #prepare(): Promise<void> {
    const folder = join(this.#dir, UNFINISHED);
    makeDirectory(folder);
    const marker = join(folder, MARKER);
    const isOurs = await readFile(marker, 'latin1').then((text) => text === MARKER_TEXT, absent);
    if (isOurs === undefined) await writeWholeFile(marker, [Buffer.from(MARKER_TEXT)]);
    if (!isOurs) return;
    for (const name of await readdir(folder)) {
      if (!UNFINISHED_NAME.test(name)) continue;
      try {
        // Once its writer has ended.
        readLocked(join(folder, name), () => undefined);
      } catch (error) {
        log.debug('cannot remove what a killed writer has left', { at: name, error: messageOf(error) });
      }
    }
  }

  async get(key: string, limit: number, signal?: AbortSignal): Promise<StoredObject | undefined> {
    signal?.throwIfAborted();
    const file = await open(join(this.#dir, key)).catch(absent);
    if (!file) return undefined;
    try {
      const { size, mtimeMs } = await file.stat();
      if (size > limit) throw damaged(`${this.address}: ${key} has ${size} bytes, more than ${limit}`);
      const bytes = await file.readFile();
      return { bytes, tag: Digest.hash(bytes).hex, modified: mtimeMs };
    } finally {
      await file.close();
    }
  }

  async part(key: string, { start, length }: { start: number; length: number }, signal?: AbortSignal) {
    signal?.throwIfAborted();
    const file = await open(join(this.#dir, key)).catch(absent);
    if (!file) return undefined;
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, start);
      return { bytes: buffer.subarray(0, bytesRead) };
    } finally {
      await file.close();
    }
  }

  async facts(key: string): Promise<ObjectFacts | undefined> {
    const found = await stat(join(this.#dir, key)).catch(absent);
    return found && { size: found.size, modified: found.mtimeMs };
  }

  async put(key: string, bytes: Uint8Array, condition: Condition, signal?: AbortSignal): Promise<boolean> {
    signal?.throwIfAborted();
    if (condition === 'absent') {
      if (await this.facts(key)) return false;
      return this.#written(key, bytes, async (unnamed, path) => {
        try {
          await link(unnamed, path);
          return true;
        } catch (error) {
          if (systemCode(error) === 'EEXIST') return false;
          throw error;
        }
      });
    }
    const replace = () =>
      this.#written(key, bytes, async (unnamed, path) => {
        await rename(unnamed, path);
        return true;
      });
    if (condition === 'always') return replace();
    return this.#locked(async () => {
      if ((await this.get(key, Number.MAX_SAFE_INTEGER))?.tag !== condition.tag) return false;
      return replace();
    });
  }

  /** Makes a file that is unfinished, and locks it. */
  async #begin(): Promise<{ file: FileHandle; at: string }> {
    for (let tries = 1; ; tries++) {
      const at = join(this.#dir, UNFINISHED, randomBytes(16).toString('hex'));
      const file = await open(at, 'wx', 0o444);
      // Where nothing can be locked, nobody clears up.
      const isLocked = lockDescriptor(file.fd, 'exclusive') || tries > LOCK_TRIES;
      if (isLocked && (await file.stat()).nlink > 0) return { file, at };
      // Somebody who clears up was faster.
      await unlink(at).catch(absent);
      await file.close();
    }
  }

  /** Writes a file without a name, has it named, and puts both on disk. */
  async #written(
    key: string,
    bytes: Uint8Array,
    name: (unnamed: string, path: string) => Promise<boolean>,
  ): Promise<boolean> {
    const path = join(this.#dir, key);
    let unfinished: { file: FileHandle; at: string } | undefined;
    try {
      this.#prepared ??= this.#prepare();
      await this.#prepared;
      unfinished = await this.#begin();
      await unfinished.file.writeFile(bytes);
      await unfinished.file.datasync();
      const made = makeDirectory(dirname(path));
      const isNamed = await name(unfinished.at, path);
      if (isNamed) await this.#syncFolders(dirname(path), made);
      return isNamed;
    } catch (error) {
      this.#prepared = undefined;
      if (systemCode(error) !== 'ENOSPC' && systemCode(error) !== 'EDQUOT') throw error;
      throw new StoreError('NO_SPACE', `${this.address}: no space left`, { cause: error });
    } finally {
      if (unfinished) {
        await unlink(unfinished.at).catch(absent);
        await unfinished.file.close();
      }
    }
  }

  /** Syncs the folder of an object, and those above it as far as they were made for it. */
  async #syncFolders(folder: string, made: string | undefined): Promise<void> {
    const last = made === undefined ? folder : dirname(made);
    for (let at = folder; ; at = dirname(at)) {
      const file = await open(at);
      await file.sync().finally(() => file.close());
      if (at === last) return;
    }
  }

  /** Runs something while no other process, nor another call of this one, replaces an object. */
  async #locked<T>(work: () => Promise<T>): Promise<T> {
    // The kernel lets go of it when this process dies.
    const fd = openSync(join(this.#dir, LOCK), 'a');
    try {
      while (!lockDescriptor(fd, 'exclusive')) await delay(LOCK_WAIT_MS);
      return await work();
    } finally {
      closeSync(fd);
    }
  }

  async remove(keys: readonly string[]): Promise<void> {
    for (const key of keys) await unlink(join(this.#dir, key)).catch(absent);
  }

  async *list(prefix: string): AsyncGenerator<ListedObject> {
    const folder = join(this.#dir, prefix.slice(0, prefix.lastIndexOf('/') + 1));
    const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(absent);
    for (const entry of entries ?? []) {
      const key = relative(this.#dir, join(entry.parentPath, entry.name));
      if (!entry.isFile() || !key.startsWith(prefix)) continue;
      const facts = await this.facts(key);
      if (facts) yield { key, ...facts };
    }
  }

  async close(): Promise<void> {}
}

/** Turns the error for something that is not there into `undefined`. */
function absent(error: unknown): undefined {
  if (!isAbsence(error)) throw error;
}
