import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { Code } from '../../util/errors.ts';
import { CODES, StoreError } from '../../util/errors.ts';
import { whyUnreachable } from '../../util/unreachable.ts';

/** How grpc-js begins to say that there is no connection. */
const UNCONNECTED = /^No connection established\. Last error: (?:Error: )?|^(?=Name resolution failed)/;

/** What grpc-js makes of a stream that was reset because of too much load. */
const CALM = 'Bandwidth exhausted or memory limit exceeded';
/** What is said of a message that somebody's limit does not let through: asking again does not make it shorter. */
const TOO_LARGE = /message .*larger than/;
/** What those that stand between say of what may pass: the peer itself always answers 200. */
const PASSING_HTTP = [408, 425, 429];

/**
 * Gives the error to throw for a failed call. `address` names the peer, for people; `ifBrokenOff` says what else is to be
 * looked at when a connection is broken off before it can be used.
 */
export function failureOf(address: string, error: ServiceError, ifBrokenOff = ''): StoreError {
  const details = error.details || error.message;
  if (error.code === status.UNAVAILABLE && UNCONNECTED.test(details)) {
    const said = details.replace(UNCONNECTED, '').replace(/\. Resolution note: .*$/s, '');
    const words = whyUnreachable(said);
    const why = words.includes('breaks off') ? words + ifBrokenOff : words;
    return new StoreError('UNAVAILABLE', `cannot connect to ${address}: ${why}`, { cause: error });
  }
  const code = isBroken(error.code, details) ? 'UNAVAILABLE' : codeOf(error.code, details);
  return new StoreError(code, `${address}: ${details}`, { cause: error });
}

/** The error of a part of a call that has a status of its own. */
export function failureOfStatus(address: string, code: number, message: string): StoreError {
  return new StoreError(codeOf(code, message), `${address}: ${message}`);
}

/** Whether a call was broken off on its way, by a connection or whatever stands between, and not answered. */
function isBroken(code: number, details: string): boolean {
  // Nobody here has cancelled it.
  if (code === status.CANCELLED || code === status.ABORTED) return true;
  if (details.startsWith('Received RST_STREAM with code') || details === CALM) return true;
  const http = Number(/^Received HTTP status code (\d+)/.exec(details)?.[1]);
  return http >= 500 || PASSING_HTTP.includes(http);
}

/** Our code for a gRPC status; what has none of its own is INTERNAL. */
function codeOf(grpc: number | undefined, details: string): Code {
  if (grpc === status.RESOURCE_EXHAUSTED) return TOO_LARGE.test(details) ? 'INTERNAL' : 'RESOURCE_EXHAUSTED';
  const found = Object.entries(CODES).find(([, { grpc: number }]) => number === grpc);
  return (found?.[0] as Code | undefined) ?? 'INTERNAL';
}
