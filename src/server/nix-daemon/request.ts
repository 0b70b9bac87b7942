import type { Operation } from '../../nix/worker/protocol.ts';
import type { Frames, WireReader } from '../../nix/worker/reader.ts';
import type { WireWriter } from '../../nix/worker/writer.ts';

/** The client of a session. */
export interface Client {
  /** Of the protocol, as both sides speak it. */
  readonly version: number;
  /** Throws PERMISSION_DENIED for a client that may only read. */
  mayWrite(): void;
  /** Likewise, and waits for the memory that an upload takes. */
  mayUpload(): Promise<void>;
  readonly signal: AbortSignal;
}

/** A request that has been read. */
export interface Request {
  /** What follows it. All of it is read, or skipped, before the next request. */
  readonly contents?: Frames;
  /** Does what is asked, and writes the answer. */
  run(answer: WireWriter, client: Client): Promise<void>;
  /** What is sent behind the answer. */
  behind?(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** Reads a request of a kind. Throws INVALID_ARGUMENT; where the next one begins is not known then. */
export type RequestReader = (from: WireReader) => Promise<Request>;

/** The requests that are understood. */
export type Operations = Readonly<Partial<Record<Operation, RequestReader>>>;
