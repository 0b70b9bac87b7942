import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { Code } from '../../util/errors.ts';
import { CODES, StoreError } from '../../util/errors.ts';
import { whyUnreachable } from '../../util/unreachable.ts';

/** How grpc-js begins to say that there is no connection. */
const UNCONNECTED = /^No connection established\. Last error: (?:Error: )?|^(?=Name resolution failed)/;

/** Gives the error to throw for a failed call. `address` names the peer, for people. */
export function failureOf(address: string, error: ServiceError): StoreError {
  const details = error.details || error.message;
  if (error.code === status.UNAVAILABLE && UNCONNECTED.test(details)) {
    const why = whyUnreachable(details.replace(UNCONNECTED, '').replace(/\. Resolution note: .*$/s, ''));
    return new StoreError('UNAVAILABLE', `cannot connect to ${address}: ${why}`, { cause: error });
  }
  // grpc-js says so when the connection breaks under a call.
  const broken = error.code === status.INTERNAL && details.startsWith('Received RST_STREAM with code 2');
  return new StoreError(broken ? 'UNAVAILABLE' : codeOf(error.code), `${address}: ${details}`, {
    cause: error,
  });
}

/** Our code for a gRPC status; what has none of its own is INTERNAL. */
function codeOf(grpc: number | undefined): Code {
  if (grpc === status.RESOURCE_EXHAUSTED) return 'RESOURCE_EXHAUSTED';
  const found = Object.entries(CODES).find(([, { grpc: number }]) => number === grpc);
  return (found?.[0] as Code | undefined) ?? 'INTERNAL';
}
