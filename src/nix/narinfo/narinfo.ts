import { asBuffer } from '../../util/bytes.ts';
import { invalid } from '../../util/errors.ts';
import type { ContentAddress } from '../content-address.ts';
import type { Hash } from '../hash.ts';
import type { Signature } from '../signature.ts';
import type { StorePath } from '../store-path.ts';
import type { Key } from './fields.ts';
import { FIELDS, isKey, KEYS } from './fields.ts';
import { keyOf, linesOf, parseLines } from './lines.ts';
import type { NarInfoValues } from './values.ts';

export type { NarInfoValues } from './values.ts';

/** No narinfo is longer; one with 10 000 references has about 500 KiB. */
export const MAX_NARINFO_LENGTH = 2 << 20;

/**
 * A narinfo: the text as it came, line by line, and what it tells. Nothing of the text is lost, neither keys that
 * we do not know nor the order.
 */
export class NarInfo implements NarInfoValues {
  readonly #lines: readonly string[];
  readonly storePath: StorePath;
  readonly url: string;
  readonly compression: string;
  readonly fileHash: Hash | undefined;
  readonly fileSize: bigint | undefined;
  readonly narSha256: Uint8Array;
  readonly narSize: bigint;
  readonly references: readonly StorePath[];
  readonly deriver: StorePath | undefined;
  readonly system: string | undefined;
  readonly signatures: readonly Signature[];
  readonly ca: ContentAddress | undefined;

  private constructor(lines: readonly string[]) {
    const values = parseLines(lines);
    this.#lines = lines;
    this.storePath = values.storePath;
    this.url = values.url;
    this.compression = values.compression;
    this.fileHash = values.fileHash;
    this.fileSize = values.fileSize;
    this.narSha256 = values.narSha256;
    this.narSize = values.narSize;
    this.references = values.references;
    this.deriver = values.deriver;
    this.system = values.system;
    this.signatures = values.signatures;
    this.ca = values.ca;
  }

  /** Reads the text of a narinfo, UTF-8, every line of it ended. Throws INVALID_ARGUMENT. */
  static parse(bytes: Uint8Array): NarInfo {
    if (bytes.length > MAX_NARINFO_LENGTH) {
      throw invalid(`invalid narinfo: ${bytes.length} bytes, no more than ${MAX_NARINFO_LENGTH} are allowed`);
    }
    const text = asBuffer(bytes).toString();
    if (!Buffer.from(text).equals(bytes)) throw invalid('invalid narinfo: it is not UTF-8');
    const lines = text.split('\n');
    if (lines.pop() !== '') throw invalid('invalid narinfo: its last line does not end');
    return new NarInfo(lines);
  }

  /** The narinfo that tells this, in the usual order. Throws INVALID_ARGUMENT for what cannot be told. */
  static of(values: NarInfoValues): NarInfo {
    return new NarInfo(KEYS.flatMap((key) => linesOf(key, values)));
  }

  /**
   * Copies the narinfo with other values (`undefined`: without one); the lines of the others stay as they are.
   * Throws INVALID_ARGUMENT for what cannot be told.
   */
  with(changes: Partial<NarInfoValues>): NarInfo {
    const values = { ...this, ...changes };
    const lines = [...this.#lines];
    for (const key of KEYS.filter((key) => FIELDS[key].name in changes)) {
      const first = lines.findIndex((line) => keyOf(line) === key);
      const at = first < 0 ? placeOf(key, lines) : first;
      const others = lines.slice(at).filter((line) => keyOf(line) !== key);
      lines.splice(at, lines.length, ...linesOf(key, values), ...others);
    }
    return new NarInfo(lines);
  }

  /** The text, as it came. */
  toString(): string {
    return this.#lines.map((line) => `${line}\n`).join('');
  }
}

/** Where a key that is not there belongs: behind the last of those that are usually written before it. */
function placeOf(key: Key, lines: readonly string[]): number {
  const before = KEYS.slice(0, KEYS.indexOf(key));
  return (
    1 +
    lines.findLastIndex((line) => {
      const other = keyOf(line);
      return isKey(other) && before.includes(other);
    })
  );
}
