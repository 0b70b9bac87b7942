import { checkedRow, parseCheckedRow } from '../../castore/local/checked-row.ts';
import type { Environment } from '../../castore/local/environment.ts';
import type { Table } from '../../castore/local/table.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { Profile } from './profile.ts';
import { decodeProfile, encodeProfile } from './profile.ts';

/** The name of the table. */
export const PROFILE = 'profile';

/** Profiles that a cache keeps: beyond, some go, which ones nobody knows. */
const MAX_PROFILES = 10_000;
/** So many go at once. */
const REMOVED_AT_ONCE = 500;

/** The table of profiles in a cache, by the digest of the root: an encoded profile and its CRC-32. */
export class ProfileTable {
  readonly table: Table;
  readonly #env: Environment;

  constructor(env: Environment) {
    this.#env = env;
    this.table = env.table(PROFILE);
  }

  /** A damaged one is none: nothing depends on it. */
  get(root: Uint8Array): Profile | undefined {
    this.#env.refresh();
    const row = this.table.get(root);
    try {
      return row && parseProfileRow(row, root);
    } catch {
      return undefined;
    }
  }

  row(profile: Profile): Uint8Array {
    return checkedRow(encodeProfile(profile));
  }

  /** Puts a profile over one that may be there. */
  async put(profile: Profile): Promise<void> {
    await this.#env.committed(this.table.put(profile.root.bytes, this.row(profile)));
  }

  /** Makes room, if there are too many: digests are in no order, so those that go are any. */
  trim(): void {
    if (this.table.count <= MAX_PROFILES) return;
    this.#env.transaction(() => {
      const keys = [...this.table.rows({ limit: REMOVED_AT_ONCE })].map(({ key }) => Buffer.from(key));
      for (const key of keys) this.table.removeSync(key);
    });
  }
}

/** Reads a row. Throws DATA_LOSS or INVALID_ARGUMENT for a damaged one. */
export function parseProfileRow(row: Uint8Array, root: Uint8Array): Profile {
  const profile = decodeProfile(parseCheckedRow(row, 0, 'a profile'));
  if (!asBuffer(profile.root.bytes).equals(root)) throw damaged('it is that of another tree');
  return profile;
}
