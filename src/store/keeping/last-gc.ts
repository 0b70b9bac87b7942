import { RecordFile } from './record-file.ts';

/** The last collection that came to its end. */
export interface LastCollection {
  /** When, in milliseconds since 1970. */
  readonly finished: number;
  /** Store paths that went. */
  readonly paths: number;
}

/** `undefined` for never, as far as that is known. */
export function lastCollection(dir: string): LastCollection | undefined {
  const { finished, paths } = recordIn(dir).load();
  return typeof finished === 'number' && typeof paths === 'number' ? { finished, paths } : undefined;
}

export function rememberCollection(dir: string, collection: LastCollection): void {
  recordIn(dir).save(collection);
}

function recordIn(dir: string): RecordFile {
  return new RecordFile(dir, 'gc.json');
}
