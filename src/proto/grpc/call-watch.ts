import { subscribe } from 'node:diagnostics_channel';
import type { ClientHttp2Stream } from 'node:http2';
import { Metadata } from '@grpc/grpc-js';
import { ArrivalTeller, arrivalListener } from '../../util/async/arrivals.ts';
import './session-memory.ts';

/** Arrivals are told of this often at most, in milliseconds. */
const TELL_MS = 20;

/** Asks the server for signs of life while it works on the call: an answer of status 102 now and then, before its own. */
export const SIGNS_HEADER = 'x-signs-of-life';
/** So many more of them than one a second come of no honest server: its connection is broken, before they fill the memory. */
const MAX_SIGNS = 100;
/** A long message is sent in parts of so many bytes, each of which is told of. */
const PART_LENGTH = 128 << 10;

/**
 * Watches over a call: tells of every byte that arrives for it, and ends it when nothing has arrived, nor been sent, nor
 * been said to be under way, for so long. grpc-js tells of whole messages only, and one of a megabyte may take a minute.
 */
export class CallWatch {
  /** To be sent with the call: it is how the call is found again among the streams of a connection. */
  readonly metadata: Metadata;
  /** Whether the call was ended because nothing moved. */
  isIdle = false;
  readonly #timer: NodeJS.Timeout;
  readonly #teller: ArrivalTeller;
  #ended = false;

  /** `cancel` ends the call; `idleMs` is how long nothing may move, in milliseconds. */
  constructor(idleMs: number, cancel: () => void) {
    this.metadata = new FoundMetadata(this);
    this.metadata.set(SIGNS_HEADER, '1');
    const listener = arrivalListener();
    this.#teller = new ArrivalTeller((bytes) => {
      // A timer that has been cleared would start again.
      if (!this.#ended) this.#timer.refresh();
      listener?.(bytes);
    }, TELL_MS);
    this.#timer = setTimeout(() => {
      this.isIdle = true;
      cancel();
    }, idleMs).unref();
  }

  /** Something was sent, or the peer has said that it is at work. */
  moved(): void {
    if (!this.#ended) this.#timer.refresh();
  }

  arrived(bytes = 0): void {
    if (!this.#ended) this.#teller.arrived(bytes);
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#teller.end();
  }
}

/** Whose stream is made next. */
let next: CallWatch | undefined;

/** Metadata of which grpc-js asks for the headers of a stream right before it makes that stream. */
class FoundMetadata extends Metadata {
  readonly #watch: CallWatch;

  constructor(watch: CallWatch) {
    super();
    this.#watch = watch;
  }

  /** grpc-js makes a copy for each attempt. */
  override clone(): Metadata {
    const copy = new FoundMetadata(this.#watch);
    copy.merge(this);
    return copy;
  }

  override toHttp2Headers(): ReturnType<Metadata['toHttp2Headers']> {
    next = this.#watch;
    return super.toHttp2Headers();
  }
}

subscribe('http2.client.stream.created', (message) => {
  const watch = next;
  next = undefined;
  if (!watch) return;
  const { stream } = message as { stream: ClientHttp2Stream };
  stream.on('data', (part: Buffer) => watch.arrived(part.length));
  // Its headers are no progress, but an answer that has begun.
  stream.on('response', () => watch.arrived());
  watchSigns(stream, watch);
  tellSending(stream, watch);
});

/** Takes answers of status 102, which come before the answer itself. */
function watchSigns(stream: ClientHttp2Stream, watch: CallWatch): void {
  const begun = performance.now();
  let signs = 0;
  stream.on('headers', () => {
    watch.moved();
    if (++signs > MAX_SIGNS + (performance.now() - begun) / 1000) stream.session?.destroy();
  });
}

/** Has a stream write what is long in parts, and tells when each has been sent. */
function tellSending(stream: ClientHttp2Stream, watch: CallWatch): void {
  const write = stream.write.bind(stream) as (part: Buffer, done?: (error?: Error | null) => void) => boolean;
  stream.write = ((bytes: Buffer, done?: (error?: Error | null) => void) => {
    // What waits would be written together, and told of at its end.
    if (bytes.length > PART_LENGTH) Object.assign(stream, { _writev: null });
    for (let at = 0; bytes.length - at > PART_LENGTH; at += PART_LENGTH)
      write(bytes.subarray(at, at + PART_LENGTH), () => watch.moved());
    const last = (Math.ceil(bytes.length / PART_LENGTH) - 1) * PART_LENGTH;
    return write(bytes.subarray(Math.max(0, last)), (error) => {
      watch.moved();
      done?.(error);
    });
  }) as typeof stream.write;
}
