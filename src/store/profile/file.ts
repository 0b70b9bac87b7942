import { createReadStream } from 'node:fs';
import { STORE_PATH_HASH_LENGTH } from '../../nix/store-path.ts';
import { asBuffer, collect } from '../../util/bytes.ts';
import { invalid, reasonOf, StoreError } from '../../util/errors.ts';
import { writeWholeFile } from '../../util/system/whole-file.ts';
import type { Profile } from './profile.ts';
import { decodeProfile, encodeProfile, MAX_PROFILE_LENGTH } from './profile.ts';

/** The beginning of a file of profiles. */
const MAGIC = Buffer.from('tvix-store profiles 1\n');
const MAX_FILE = 256 << 20;
const LENGTH_BYTES = 4;

/** The profile of a store path. */
export interface NamedProfile {
  /** Hash of the store path. */
  readonly hash: Uint8Array;
  readonly profile: Profile;
}

/**
 * Writes profiles into one file: MAGIC, then of each the hash of the store path (20 bytes), the length of the encoded profile (u32,
 * little-endian), and that.
 */
export async function writeProfiles(path: string, profiles: readonly NamedProfile[]): Promise<void> {
  const parts = function* () {
    yield MAGIC;
    for (const { hash, profile } of profiles) {
      const encoded = encodeProfile(profile);
      const length = Buffer.alloc(LENGTH_BYTES);
      length.writeUInt32LE(encoded.length);
      yield Buffer.concat([hash, length, encoded]);
    }
  };
  await writeWholeFile(path, parts());
}

/** Reads such a file, which anybody may have made. Throws INVALID_ARGUMENT. */
export function decodeProfiles(bytes: Uint8Array): NamedProfile[] {
  const file = asBuffer(bytes);
  if (!file.subarray(0, MAGIC.length).equals(MAGIC)) throw invalid('this is no file of profiles');
  const profiles: NamedProfile[] = [];
  for (let at = MAGIC.length; at < file.length; ) {
    const start = at + STORE_PATH_HASH_LENGTH + LENGTH_BYTES;
    if (start > file.length) throw invalid('a file of profiles is cut short');
    const length = file.readUInt32LE(start - LENGTH_BYTES);
    if (length > MAX_PROFILE_LENGTH || start + length > file.length)
      throw invalid('a file of profiles is cut short');
    const hash = Uint8Array.from(file.subarray(at, at + STORE_PATH_HASH_LENGTH));
    profiles.push({ hash, profile: decodeProfile(file.subarray(start, start + length)) });
    at = start + length;
  }
  return profiles;
}

/** Reads a file of profiles. Throws INVALID_ARGUMENT for what is none, FAILED_PRECONDITION for what cannot be read. */
export async function readProfiles(path: string): Promise<NamedProfile[]> {
  let bytes: Uint8Array | undefined;
  try {
    bytes = await collect(createReadStream(path), MAX_FILE);
  } catch (error) {
    throw new StoreError('FAILED_PRECONDITION', `cannot read ${path}: ${reasonOf(error)}`, { cause: error });
  }
  if (!bytes) throw invalid(`${path} is too large for a file of profiles`);
  try {
    return decodeProfiles(bytes);
  } catch (error) {
    throw invalid(`${path}: ${reasonOf(error)}`, { cause: error });
  }
}
