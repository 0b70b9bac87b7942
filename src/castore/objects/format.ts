import { StoreError } from '../../util/errors.ts';
import type { ObjectStore } from './object-store.ts';

/** The object that holds the version of our part of the layout. */
export const FORMAT_KEY = 'format';
export const FORMAT = '1';
/** A tag that no object has. */
const NO_TAG = '0'.repeat(32);

/**
 * Marks a place for objects as one of this layout, before anything else is put there. Throws FAILED_PRECONDITION for a
 * server that does not look at conditions: writers at the same time would overwrite each other unseen.
 */
export async function markFormat(objects: ObjectStore): Promise<void> {
  const bytes = Buffer.from(FORMAT);
  const isNew = await objects.put(FORMAT_KEY, bytes, 'absent');
  if (!objects.isFar) return;
  const isIgnored =
    (isNew && (await objects.put(FORMAT_KEY, bytes, 'absent'))) ||
    (await objects.put(FORMAT_KEY, bytes, { tag: NO_TAG }));
  if (!isIgnored) return;
  throw new StoreError(
    'FAILED_PRECONDITION',
    `${objects.address}: its server ignores conditional writes (If-None-Match, If-Match), so that writers would ` +
      'overwrite each other; use another server, or a newer version of it',
  );
}
