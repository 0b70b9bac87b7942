import { Digest } from '../../castore/digest.ts';
import { asBuffer } from '../../util/bytes.ts';
import { invalid } from '../../util/errors.ts';

/** Files are noted in blocks of so many bytes. */
export const BLOCK = 64 << 10;
/** Steps of a profile at the most, and bytes of one that is encoded. */
export const MAX_STEPS = 4096;
export const MAX_PROFILE_LENGTH = 128 << 10;

const VERSION = 1;
const DIGEST_LENGTH = 32;
/** Numbers in a profile are below this, and take so many bytes at the most. */
const LIMIT = 2 ** 32;
const LONGEST = 5;

/** A place in a tree: an entry of a directory, by their numbers. */
interface Place {
  /** 0 for the root of the tree, n for the nth directory among the steps before. */
  readonly directory: number;
  /** In the order of the directory. */
  readonly entry: number;
}

/** What was needed: a directory, a whole file, or so many blocks of one. */
export type Step =
  | (Place & { readonly kind: 'directory' | 'file' })
  | (Place & { readonly kind: 'part'; readonly start: number; readonly count: number });

/**
 * What of a tree was needed when it was used, in the order in which that was first so. It names nothing by digests but the root:
 * whoever follows it looks into the directories of that tree, and so finds nothing that is not in it.
 */
export interface Profile {
  /** The root directory of the tree. */
  readonly root: Digest;
  readonly steps: readonly Step[];
}

const KINDS = ['directory', 'file', 'part'] as const;

/**
 * Encodes a profile:
 *
 *   version, 1 byte: 1 | digest of the root, 32 bytes | steps, to the end
 *
 * A step is some numbers, each in groups of 7 bits, the lowest first, of which all but the last have their highest bit set:
 * `4 * d + kind`, where kind is 0 for a directory, 1 for a file, 2 for a part of one, and d says how much the number of the
 * directory differs from that of the step before (0 for the first): 2n for n more, 2n - 1 for n less; the entry; and of a
 * part the first block and the number of blocks.
 */
export function encodeProfile({ root, steps }: Profile): Uint8Array {
  const bytes: number[] = [];
  const put = (number: number) => {
    let rest = number;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
    bytes.push(rest);
  };
  let last = 0;
  for (const step of steps) {
    const difference = step.directory - last;
    last = step.directory;
    put(4 * (difference < 0 ? -2 * difference - 1 : 2 * difference) + KINDS.indexOf(step.kind));
    put(step.entry);
    if (step.kind !== 'part') continue;
    put(step.start);
    put(step.count);
  }
  return Buffer.concat([Buffer.of(VERSION), root.bytes, Buffer.from(bytes)]);
}

/** Reads a profile that anybody may have made. Throws INVALID_ARGUMENT. */
export function decodeProfile(encoded: Uint8Array): Profile {
  const bytes = asBuffer(encoded);
  if (bytes.length > MAX_PROFILE_LENGTH) throw invalid('a profile is too long');
  if (bytes[0] !== VERSION) throw invalid(`a profile has version ${bytes[0]}, this program knows ${VERSION}`);
  if (bytes.length <= DIGEST_LENGTH) throw invalid('a profile is cut short');
  let at = 1 + DIGEST_LENGTH;
  const take = (): number => {
    let number = 0;
    for (let i = 0, scale = 1; i < LONGEST; i++, scale *= 0x80) {
      const byte = bytes[at++];
      if (byte === undefined) throw invalid('a profile is cut short');
      number += (byte & 0x7f) * scale;
      if (byte < 0x80 && number < LIMIT) return number;
    }
    throw invalid('a number in a profile is too large');
  };
  const steps: Step[] = [];
  let directories = 1;
  let last = 0;
  while (at < bytes.length) {
    if (steps.length === MAX_STEPS) throw invalid('a profile has too many steps');
    const head = take();
    const kind = KINDS[head % 4];
    const coded = Math.floor(head / 4);
    const directory = last + (coded % 2 === 1 ? -(coded + 1) / 2 : coded / 2);
    if (!kind || directory < 0 || directory >= directories)
      throw invalid('a step of a profile leads nowhere');
    last = directory;
    const entry = take();
    if (kind === 'directory') directories++;
    if (kind !== 'part') steps.push({ kind, directory, entry });
    else steps.push({ kind, directory, entry, start: take(), count: take() });
  }
  return { root: Digest.of(Uint8Array.from(bytes.subarray(1, 1 + DIGEST_LENGTH))), steps };
}
