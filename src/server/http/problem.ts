import type { Code } from '../../util/errors.ts';
import { CODES, messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';

/** A failure with a status that HTTP alone knows. */
export class HttpProblem extends StoreError {
  readonly status: number;
  readonly headers: Record<string, string>;

  constructor(
    status: number,
    message: string,
    headers: Record<string, string> = {},
    options?: { cause?: unknown },
  ) {
    super('INVALID_ARGUMENT', message, options);
    this.status = status;
    this.headers = headers;
  }
}

/** How a failure is answered. What is no client's business is only logged. */
export function problemOf(error: unknown): HttpProblem {
  if (error instanceof HttpProblem) return error;
  if (!(error instanceof StoreError)) {
    log.error('a request failed', { error: messageOf(error) });
    return new HttpProblem(CODES.INTERNAL.http, 'internal error');
  }
  const { code } = error;
  const status: number = CODES[code].http;
  if (status >= 500) log.warn('a request failed', { code, error: error.message });
  return new HttpProblem(status, error.message, HEADERS[code]);
}

const HEADERS: Partial<Record<Code, Record<string, string>>> = {
  UNAUTHENTICATED: { 'www-authenticate': 'Basic realm="tvix-store", charset="UTF-8"' },
  RESOURCE_EXHAUSTED: { 'retry-after': '1' },
  UNAVAILABLE: { 'retry-after': '1' },
};
