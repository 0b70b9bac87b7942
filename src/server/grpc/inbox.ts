import type { ServerHttp2Stream } from 'node:http2';
import { promisify } from 'node:util';
import { gunzip, inflate } from 'node:zlib';
import { MAX_MESSAGE_LENGTH } from '../../proto/grpc/methods.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import type { Holding } from '../shares/holding.ts';
import type { ReceiveWindow } from './receive-window.ts';

const HEAD_LENGTH = 5;
/** What a part costs that has not been read yet, besides its bytes. */
const PART_COST = 256;
/** A byte of deflate gives no more than this. */
const MOST_DEFLATED = 1032;

type Decompress = (bytes: Uint8Array, options: { maxOutputLength: number }) => Promise<Buffer>;
export const ENCODINGS: Readonly<Record<string, Decompress | undefined>> = {
  identity: undefined,
  gzip: promisify<Uint8Array, { maxOutputLength: number }, Buffer>(gunzip),
  deflate: promisify<Uint8Array, { maxOutputLength: number }, Buffer>(inflate),
};

/**
 * The messages of a call, as they come. A message is read when there is memory for all of it; until then the client
 * cannot send much, by HTTP/2's flow control. The memory of a message is free when the next is asked for.
 */
export class Inbox {
  readonly #stream: ServerHttp2Stream;
  readonly #holding: Holding;
  readonly #window: ReceiveWindow;
  readonly #signal: AbortSignal;
  readonly #decompress: Decompress | undefined;
  #rest: Buffer | undefined;
  #wake: (() => void) | undefined;
  #parts = 0;
  #unused = 0;
  #taken = 0;
  #arrived = 0;

  constructor(
    stream: ServerHttp2Stream,
    about: { holding: Holding; window: ReceiveWindow; signal: AbortSignal; encoding: string },
  ) {
    this.#stream = stream;
    this.#holding = about.holding;
    this.#window = about.window;
    this.#signal = about.signal;
    this.#decompress = ENCODINGS[about.encoding];
    this.#countArrivals();
    const wake = () => this.#wake?.();
    stream.on('readable', wake).on('end', wake).on('close', wake);
    about.signal.addEventListener('abort', wake);
  }

  /** What has come lies in memory before anybody reads it: Node takes it for as long as the client may send. */
  #countArrivals(): void {
    const stream = this.#stream;
    const push = stream.push;
    stream.push = (part, encoding) => {
      if (part) {
        this.#parts++;
        this.#arrived += part.length;
        this.#holding.moved(part.length);
        this.#holding.arrive(part.length + PART_COST);
      }
      return push.call(stream, part, encoding);
    };
  }

  async *messages(): AsyncGenerator<Buffer> {
    this.#window.change(1);
    try {
      const head = Buffer.alloc(HEAD_LENGTH);
      while (await this.#fill(head)) {
        const length = head.readUInt32BE(1);
        if (length > MAX_MESSAGE_LENGTH) {
          throw new StoreError(
            'RESOURCE_EXHAUSTED',
            `a message of ${length} bytes is larger than ${MAX_MESSAGE_LENGTH}`,
          );
        }
        // What the last one took is kept for the next: who has begun does not wait for those who have not.
        if (length > this.#taken) {
          await this.#holding.take(length - this.#taken);
          this.#taken = length;
        }
        this.#signal.throwIfAborted();
        const bytes = Buffer.allocUnsafe(length);
        if (length > 0 && !(await this.#fill(bytes))) throw cutShort();
        if (head[0] === 0) yield bytes;
        else yield* this.#decompressed(bytes);
      }
    } finally {
      this.#window.change(-1);
    }
  }

  async *#decompressed(bytes: Buffer): AsyncGenerator<Buffer> {
    if (!this.#decompress) throw new StoreError('INTERNAL', 'a compressed message without grpc-encoding');
    const most = Math.min(MAX_MESSAGE_LENGTH, bytes.length * MOST_DEFLATED);
    await this.#holding.take(most);
    let message: Buffer;
    try {
      message = await this.#decompress(bytes, { maxOutputLength: Math.max(1, most) });
    } catch (error) {
      throw new StoreError('RESOURCE_EXHAUSTED', `cannot decompress a message: ${messageOf(error)}`, {
        cause: error,
      });
    }
    this.#holding.give(most - message.length);
    yield message;
    this.#holding.give(message.length);
  }

  /** False at the end of all messages. */
  async #fill(target: Buffer): Promise<boolean> {
    for (let at = 0; at < target.length; ) {
      const part = this.#rest ?? (await this.#next());
      if (!part) {
        if (at === 0 && target.length === HEAD_LENGTH) return false;
        throw cutShort();
      }
      const count = part.copy(target, at);
      at += count;
      if (count < part.length) this.#rest = part.subarray(count);
      else this.#letGo();
    }
    return true;
  }

  /** Of the part that was read last. */
  #letGo(): void {
    this.#rest = undefined;
    this.#holding.arrive(-this.#unused);
    this.#unused = 0;
  }

  async #next(): Promise<Buffer | undefined> {
    const stream = this.#stream;
    for (;;) {
      this.#signal.throwIfAborted();
      const part: Buffer | null = stream.read();
      if (part) {
        this.#unused = this.#arrived + this.#parts * PART_COST;
        this.#arrived = this.#parts = 0;
        this.#window.read(part.length);
        return part;
      }
      if (stream.readableEnded || stream.destroyed) return undefined;
      this.#holding.await('send');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
      this.#holding.await(undefined);
    }
  }
}

function cutShort(): StoreError {
  return new StoreError('CANCELLED', 'the request was cut short');
}
