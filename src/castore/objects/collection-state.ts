import { asBuffer } from '../../util/bytes.ts';
import type { ObjectStore } from './object-store.ts';

/** The object that says whether a collection is under way. */
export const STATE_KEY = 'gc/state';
const MAX_STATE = 4096;

/** What a collection says of itself, as JSON. */
export interface CollectionState {
  /** Names the run. */
  readonly id: string;
  /** It is under way until then, or has been; in milliseconds since 1970. */
  readonly until: number;
  /** What was put within so many milliseconds it leaves alone. */
  readonly graceMs: number;
}

/** The last collection; `undefined` where there was none, or what it says cannot be understood. */
export async function readState(
  objects: ObjectStore,
  signal?: AbortSignal,
): Promise<CollectionState | undefined> {
  const object = await objects.get(STATE_KEY, MAX_STATE, signal);
  if (!object) return undefined;
  try {
    const { id, until, graceMs } = JSON.parse(asBuffer(object.bytes).toString());
    return { id: String(id), until: Number(until), graceMs: Number(graceMs) };
  } catch {
    return undefined;
  }
}

export async function writeState(
  objects: ObjectStore,
  state: CollectionState,
  signal?: AbortSignal,
): Promise<void> {
  await objects.put(STATE_KEY, Buffer.from(JSON.stringify(state)), 'always', signal);
}
