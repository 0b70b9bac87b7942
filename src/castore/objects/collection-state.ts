import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { ObjectStore } from './object-store.ts';

/** The object that says whether a collection is under way. */
export const STATE_KEY = 'gc/state';
const MAX_STATE = 4096;
/** The clocks of two machines may differ by so many milliseconds. */
const CLOCKS_MS = 600_000;

/** What a collection says of itself, as JSON. */
export interface CollectionState {
  /** Names the run. */
  readonly id: string;
  /** It is under way until then, in milliseconds since 1970; 0 once it has ended. */
  readonly until: number;
  /** What was put within so many milliseconds it leaves alone. */
  readonly graceMs: number;
}

/** The last collection; `undefined` where there was none. Throws DATA_LOSS when what it says cannot be understood. */
export async function readState(
  objects: ObjectStore,
  signal?: AbortSignal,
): Promise<CollectionState | undefined> {
  const object = await objects.get(STATE_KEY, MAX_STATE, signal);
  if (!object) return undefined;
  try {
    const { id, until, graceMs } = JSON.parse(asBuffer(object.bytes).toString());
    if (typeof id === 'string' && Number.isFinite(until) && Number.isFinite(graceMs))
      return { id, until, graceMs };
  } catch {
    // Told below.
  }
  throw damaged(`${objects.address}: ${STATE_KEY} is damaged: remove it when no collection is under way`);
}

export async function writeState(objects: ObjectStore, state: CollectionState): Promise<void> {
  await objects.put(STATE_KEY, Buffer.from(JSON.stringify(state)), 'always');
}

/**
 * Whether a collection is under way, or may be: one that was killed has not said that it has ended, and clocks differ.
 * One that has ended has `until` 0.
 */
export function isUnderWay({ until }: CollectionState, now = Date.now()): boolean {
  return until !== 0 && until + CLOCKS_MS > now;
}
