import { subscribe } from 'node:diagnostics_channel';
import type { ClientHttp2Stream } from 'node:http2';
import { Metadata } from '@grpc/grpc-js';
import { arrivalListener } from '../../util/async/arrivals.ts';

/** Arrivals are told of this often at most, in milliseconds. */
const TELL_MS = 20;

/**
 * Watches over a call: tells of every byte that arrives for it, and ends it when nothing has arrived for so long.
 * grpc-js tells of whole messages only, and one of a megabyte may take a minute.
 */
export class CallWatch {
  /** To be sent with the call: it is how the call is found again among the streams of a connection. */
  readonly metadata: Metadata;
  /** Whether the call was ended because nothing arrived. */
  isIdle = false;
  readonly #timer: NodeJS.Timeout;
  readonly #listener = arrivalListener();
  #ended = false;
  /** Bytes that have arrived since the listener heard of some, and when that was. */
  #untold = 0;
  #toldAt = 0;

  /** `cancel` ends the call; `idleMs` is how long nothing may arrive, in milliseconds. */
  constructor(idleMs: number, cancel: () => void) {
    this.metadata = new FoundMetadata((bytes) => this.arrived(bytes));
    this.#timer = setTimeout(() => {
      this.isIdle = true;
      cancel();
    }, idleMs).unref();
  }

  arrived(bytes = 0): void {
    this.#untold += bytes;
    const now = performance.now();
    // A large message comes in many parts. A timer that has been cleared would start again.
    if (this.#ended || now - this.#toldAt < TELL_MS) return;
    this.#toldAt = now;
    this.#timer.refresh();
    this.#tell();
  }

  #tell(): void {
    this.#listener?.(this.#untold);
    this.#untold = 0;
  }

  end(): void {
    if (this.#ended) return;
    this.#tell();
    this.#ended = true;
    clearTimeout(this.#timer);
  }
}

/** Whose stream is made next. */
let next: ((bytes: number) => void) | undefined;

/** Metadata of which grpc-js asks for the headers of a stream right before it makes that stream. */
class FoundMetadata extends Metadata {
  readonly #arrived: (bytes: number) => void;

  constructor(arrived: (bytes: number) => void) {
    super();
    this.#arrived = arrived;
  }

  /** grpc-js makes a copy for each attempt. */
  override clone(): Metadata {
    const copy = new FoundMetadata(this.#arrived);
    copy.merge(this);
    return copy;
  }

  override toHttp2Headers(): ReturnType<Metadata['toHttp2Headers']> {
    next = this.#arrived;
    return super.toHttp2Headers();
  }
}

subscribe('http2.client.stream.created', (message) => {
  const arrived = next;
  next = undefined;
  if (!arrived) return;
  const { stream } = message as { stream: ClientHttp2Stream };
  stream.on('data', (part: Buffer) => arrived(part.length));
});
