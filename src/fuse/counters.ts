import { DISTRIBUTION_LENGTH } from '../util/metrics/distribution.ts';

/** Opcodes that have a distribution of their own; all others share that of 0, which is none. */
const TIMED_OPCODES = 64;
const LATENCIES = 256;
const IO_ERRORS = LATENCIES + TIMED_OPCODES * DISTRIBUTION_LENGTH;

/** What made a request fail with an I/O error. The order is that of their counters. */
export const IO_ERROR_CAUSES = [
  /** What it needs could not be fetched. */
  'fetch',
  /** What is here is damaged, or cannot be read. */
  'local',
  /** A fault of the program. */
  'fault',
  /** All was fetched that it asked for, and it was not enough. */
  'unsatisfied',
  /** It was given up: nobody could answer it any more. */
  'abandoned',
] as const;
export type IoErrorCause = (typeof IO_ERROR_CAUSES)[number];

/** What a thread counts, in memory shared with the fetch side, which only reads it. Exact up to 2^53. */
export const COUNTER = {
  /** Bytes of file contents answered. */
  READ_BYTES: 0,
  /** Requests that had to wait for something to be fetched. */
  PARKED: 1,
  /** Files of which something was read. */
  FILES: 2,
  /** Requests whose opcode is too high for a counter of its own. */
  OTHER_REQUESTS: 3,
  /** Requests that wait now, and since when the oldest does: in milliseconds since 1970, 0 for none. */
  WAITING: 4,
  WAITING_SINCE: 5,
  /** Guests that are connected. */
  GUESTS: 6,
  /** Requests by opcode, from here on. */
  REQUESTS: 64,
  /** How long requests took that were answered, by opcode. */
  LATENCIES,
  /** By cause. */
  IO_ERRORS,
  LENGTH: IO_ERRORS + IO_ERROR_CAUSES.length,
} as const;

/** Where a request is counted. */
export function requestCounter(opcode: number): number {
  const counter = COUNTER.REQUESTS + opcode;
  return counter < COUNTER.LATENCIES ? counter : COUNTER.OTHER_REQUESTS;
}

/** Where the distribution of an opcode begins. */
export function latencyCounter(opcode: number): number {
  return COUNTER.LATENCIES + (opcode < TIMED_OPCODES ? opcode : 0) * DISTRIBUTION_LENGTH;
}

export function countIoError(counters: Float64Array, cause: IoErrorCause): void {
  counters[COUNTER.IO_ERRORS + IO_ERROR_CAUSES.indexOf(cause)]!++;
}

/** A moment of this thread's `performance.now()` as all threads know it, in milliseconds since 1970. */
export function sharedTime(moment: number): number {
  return performance.timeOrigin + moment;
}
