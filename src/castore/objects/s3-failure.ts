import type { Code } from '../../util/errors.ts';
import { StoreError } from '../../util/errors.ts';
import { whyUnreachable } from '../../util/unreachable.ts';

/** The parts of an error of the SDK that are looked at. */
interface Failure {
  readonly name?: string;
  readonly message?: string;
  /** Node's, of a connection. */
  readonly code?: string;
  /** One for each address that was tried. */
  readonly errors?: readonly Failure[];
  readonly $metadata?: { readonly httpStatusCode?: number };
}

/** Names that a failure is told with. */
export interface FailureContext {
  /** The store, as a person may see it. */
  readonly address: string;
  readonly bucket: string;
  readonly endpoint: string;
}

const EXPIRED = ['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired', 'RequestExpired'];
/** What may pass, though its status says that the request is at fault. */
const PASSING = ['RequestTimeout', 'RequestTimeTooSkewed', 'SlowDown', 'Throttling', 'ThrottlingException'];
const WRONG_KEY = ['InvalidAccessKeyId', 'SignatureDoesNotMatch', 'InvalidToken', ...EXPIRED];
const WRONG_REGION = ['AuthorizationHeaderMalformed', 'PermanentRedirect'];

/** Whether a request was refused because of its condition. */
export function isConditionFailure(error: unknown): boolean {
  return statusOf(error) === 412;
}

export function isMissingObject(error: unknown): boolean {
  return statusOf(error) === 404 && (error as Failure).name !== 'NoSuchBucket';
}

/** Whether an object is not to be had; where objects may not be listed, S3 says so of those that are missing, too. */
export function isDenied(error: unknown): boolean {
  return statusOf(error) === 403 && (error as Failure).name === 'AccessDenied';
}

/** Whether it is not said why a request was refused: the answer to HEAD has no body. */
export function isUnexplained(error: unknown): boolean {
  const status = statusOf(error);
  return status === 400 || status === 403;
}

/** Whether a request was refused because its credentials are no longer good. */
export function isExpired(error: unknown): boolean {
  return EXPIRED.includes((error as Failure | undefined)?.name ?? '');
}

function statusOf(error: unknown): number | undefined {
  return (error as Failure).$metadata?.httpStatusCode;
}

/** A failed request as a StoreError: UNAVAILABLE and DEADLINE_EXCEEDED may pass, the others stay. */
export function failureOf(error: unknown, { address, bucket, endpoint }: FailureContext): StoreError {
  const { name = '', code } = error as Failure;
  const status = statusOf(error);
  const as = (kind: Code, message: string) =>
    new StoreError(kind, `${address}: ${message}`, { cause: error });
  if (name === 'NoSuchBucket') {
    return as(
      'FAILED_PRECONDITION',
      `there is no bucket ${JSON.stringify(bucket)} at ${endpoint}; make it first`,
    );
  }
  if (name === 'CredentialsProviderError') {
    return as(
      'PERMISSION_DENIED',
      'no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, ' +
        'or for a public bucket the parameter aws_skip_signature=true',
    );
  }
  if (WRONG_KEY.includes(name)) {
    return as('PERMISSION_DENIED', `${endpoint} refuses the access key (${name}); check the credentials`);
  }
  if (WRONG_REGION.includes(name)) {
    return as('FAILED_PRECONDITION', `the bucket is in another region (${describe(error)}); set aws_region`);
  }
  if (PASSING.includes(name)) return as('UNAVAILABLE', `${endpoint} is not ready (${describe(error)})`);
  if (status === 401 || status === 403) {
    return as('PERMISSION_DENIED', `access to the bucket is denied (${describe(error)})`);
  }
  if (status === 501) {
    return as('UNIMPLEMENTED', `${endpoint} cannot do what is needed here, such as conditional writes`);
  }
  // 409: another conditional put of the same object is under way.
  if (status === 409 || status === 429 || (status !== undefined && status >= 500)) {
    return as('UNAVAILABLE', `${endpoint} is not ready (${describe(error)})`);
  }
  if (name === 'TimeoutError')
    return as('DEADLINE_EXCEEDED', `cannot reach ${endpoint}: ${whyUnreachable('timeout')}`);
  if (code !== undefined)
    return as('UNAVAILABLE', `cannot reach ${endpoint}: ${whyUnreachable(describe(error))}`);
  return as('INTERNAL', `a request to ${endpoint} failed: ${describe(error)}`);
}

/** The SDK calls a message that it did not get "UnknownError". */
function describe(error: unknown): string {
  const { name, message, code, errors, $metadata } = error as Failure;
  const said = message || errors?.[0]?.message;
  if (said && said !== 'UnknownError') return said;
  return code ?? ([name, $metadata?.httpStatusCode].filter(Boolean).join(', ') || 'unknown');
}
