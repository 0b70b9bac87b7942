import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { unlinkIfThere } from '../../util/system/file-lock.ts';
import { Ownership } from '../../util/system/ownership.ts';

/** A file of JSON in the directory of a store, which remembers what was done there: it helps, and may be missing. */
export class RecordFile {
  readonly #dir: string;
  readonly #path: string;

  constructor(dir: string, name: string) {
    this.#dir = dir;
    this.#path = join(dir, name);
  }

  /** Nothing where there is none, or none that can be read. */
  load(): Readonly<Record<string, unknown>> {
    try {
      return Object(JSON.parse(readFileSync(this.#path, 'utf8')));
    } catch {
      return {};
    }
  }

  /** Remembers, unless the store can only be read, or its disk is full. */
  save(record: object): void {
    const fresh = `${this.#path}.new`;
    try {
      unlinkIfThere(fresh);
      // Whoever owns the store may have put a link there, which root is not to follow.
      const fd = openSync(fresh, 'wx');
      try {
        new Ownership(this.#dir).give(fd);
        writeSync(fd, `${JSON.stringify(record)}\n`);
      } finally {
        closeSync(fd);
      }
      renameSync(fresh, this.#path);
    } catch (error) {
      log.debug('cannot remember what was done', { path: this.#path, error: messageOf(error) });
      rmSync(fresh, { force: true });
    }
  }
}
