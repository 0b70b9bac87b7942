import type { ObjectStore } from '../../castore/objects/object-store.ts';
import { encodeBase32 } from '../../nix/base32.ts';
import type { Profile } from './profile.ts';
import { decodeProfile, encodeProfile, MAX_PROFILE_LENGTH } from './profile.ts';

/** Before the keys of profiles in a bucket; behind it comes the hash of the store path. */
export const PROFILE_PREFIX = 'profiles/v1/';

export function profileKey(hash: Uint8Array): string {
  return PROFILE_PREFIX + encodeBase32(hash);
}

/** The profile of a store path in a bucket. Throws INVALID_ARGUMENT for what is none. */
export async function readProfile(
  objects: ObjectStore,
  hash: Uint8Array,
  signal?: AbortSignal,
): Promise<Profile | undefined> {
  const object = await objects.get(profileKey(hash), MAX_PROFILE_LENGTH, signal);
  return object && decodeProfile(object.bytes);
}

/** Puts a profile, over one that may be there. */
export async function writeProfile(
  objects: ObjectStore,
  hash: Uint8Array,
  profile: Profile,
  signal?: AbortSignal,
): Promise<void> {
  await objects.put(profileKey(hash), encodeProfile(profile), 'always', signal);
}
