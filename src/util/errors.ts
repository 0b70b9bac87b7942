import { constants } from 'node:os';
import { getSystemErrorMessage } from 'node:util';

/**
 * The one table of failures. Each code has an errno (what a process sees through the mount), a gRPC
 * status and an HTTP status, so that a failure means the same at every border.
 */
export const CODES = {
  INVALID_ARGUMENT: { errno: 22, grpc: 3, http: 400 },
  /** A part of something that has no such part. */
  OUT_OF_RANGE: { errno: 22, grpc: 11, http: 416 },
  NOT_FOUND: { errno: 2, grpc: 5, http: 404 },
  /** Who asks has not shown that they may. */
  UNAUTHENTICATED: { errno: 13, grpc: 16, http: 401 },
  PERMISSION_DENIED: { errno: 13, grpc: 7, http: 403 },
  FAILED_PRECONDITION: { errno: 5, grpc: 9, http: 409 },
  CANCELLED: { errno: 4, grpc: 1, http: 499 },
  DEADLINE_EXCEEDED: { errno: 5, grpc: 4, http: 504 },
  RESOURCE_EXHAUSTED: { errno: 12, grpc: 8, http: 429 },
  NO_SPACE: { errno: 28, grpc: 8, http: 507 },
  UNIMPLEMENTED: { errno: 95, grpc: 12, http: 501 },
  UNAVAILABLE: { errno: 5, grpc: 14, http: 503 },
  /** Bytes that do not match their digest, or a store whose content is damaged. */
  DATA_LOSS: { errno: 5, grpc: 15, http: 500 },
  INTERNAL: { errno: 5, grpc: 13, http: 500 },
} as const;

export type Code = keyof typeof CODES;

/** A failure with a stable code. The message says what was wrong and, where it can, what to do. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly code: Code;

  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** An address or flag that cannot be meant. Commands end with exit code 2 for it. */
export class UsageError extends StoreError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('INVALID_ARGUMENT', message, options);
  }
}

/** An INVALID_ARGUMENT: outside data or a request that cannot be right. */
export function invalid(message: string, options?: { cause?: unknown }): StoreError {
  return new StoreError('INVALID_ARGUMENT', message, options);
}

/** A DATA_LOSS: something that was stored or received is not what its name promises. */
export function damaged(message: string, options?: { cause?: unknown }): StoreError {
  return new StoreError('DATA_LOSS', message, options);
}

/** A DATA_LOSS by whoever has sent something: it is not what its name promises, whatever they may think of it. */
export class WrongContents extends StoreError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('DATA_LOSS', message, options);
  }
}

/** Whether something that was thrown is a DATA_LOSS. */
export function isDamage(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === 'DATA_LOSS';
}

/** For whom what is damaged is as good as not there: `undefined` for a DATA_LOSS, every other failure is thrown. */
export function ifDamaged(error: unknown): undefined {
  if (!isDamage(error)) throw error;
}

/** The message of anything that was thrown; a failed system call is told in words, after what it was about. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, path, address, port } = error as SystemError;
  const reason = reasonOfCode(code);
  if (reason === undefined) return error.message;
  const about = path ?? (address === undefined ? undefined : `${address}:${port}`);
  return about === undefined ? reason : `${about}: ${reason}`;
}

/** As `messageOf`, where the text around it names what a system call was about. */
export function reasonOf(error: unknown): string {
  return reasonOfCode(systemCode(error)) ?? messageOf(error);
}

/** An error of a system call, with the fields that Node adds to it. */
interface SystemError extends NodeJS.ErrnoException {
  readonly address?: string;
  readonly port?: number;
}

const NUMBERS: Readonly<Record<string, number>> = constants.errno;

/** A system's error code in words; `undefined` for another kind of code. */
export function reasonOfCode(code: string | undefined): string | undefined {
  if (code === undefined || !Object.hasOwn(NUMBERS, code)) return undefined;
  return code === 'EISDIR' ? 'is a directory' : getSystemErrorMessage(-NUMBERS[code]!);
}

/** The system's error code (`ENOENT`, …) of something thrown by Node, if it has one. */
export function systemCode(error: unknown): string | undefined {
  const code: unknown = (error as NodeJS.ErrnoException | undefined)?.code;
  // A DOMException's is a number.
  return typeof code === 'string' ? code : undefined;
}

/** Whether what Node has thrown says that a file is not there, nor perhaps the directory for it. */
export function isAbsence(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '');
}
