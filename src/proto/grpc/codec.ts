import { tvix } from '../messages.ts';
import { google } from '../remote.ts';

/** A message for grpc-js, which copies it behind a header of its own. */
export interface Encoded {
  readonly byteLength: number;
  copy(target: Uint8Array, at: number): void;
}

/** A message in parts that need not lie together. */
export interface Lent extends Encoded {
  readonly parts: readonly Uint8Array[];
}

/** Writes and reads one kind of message. */
export interface Codec<T> {
  encode(message: T): Buffer;
  /** Encodes without a copy: the parts of the message must not change before it is sent. */
  lend?(message: T): Lent;
  decode(bytes: Buffer): T;
}

/** What generated code offers of a message. */
interface Generated<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** A codec of a message, by the generated code. */
export function codec<T>(type: Generated<T>): Codec<T> {
  return {
    encode: (message) => type.encode(message).finish() as Buffer,
    decode: (bytes) => type.decode(bytes),
  };
}

/** A Directory stays as it is on the wire: castore reads and checks it in place. */
export const encoded: Codec<Uint8Array> = {
  encode: (bytes) => Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length),
  decode: (bytes) => bytes,
};

type Data = { data?: Uint8Array | null };

/** Written by hand: protobufjs goes over the bytes twice. */
function lendData(tag: number, { data }: Data): Lent {
  if (!data?.length) return { byteLength: 0, parts: [], copy() {} };
  const header = [tag];
  let length = data.length;
  for (; length > 0x7f; length >>>= 7) header.push((length & 0x7f) | 0x80);
  header.push(length);
  return {
    byteLength: header.length + data.length,
    parts: [Uint8Array.from(header), data],
    copy(target, at) {
      target.set(header, at);
      target.set(data, at + header.length);
    },
  };
}

/** A codec of a message that has a field of bytes and nothing else. `tag`: how that field begins. */
function dataCodec(tag: number, decode: (bytes: Uint8Array) => Data): Codec<Data> {
  return {
    encode: (message) => {
      const lent = lendData(tag, message);
      const bytes = Buffer.allocUnsafe(lent.byteLength);
      lent.copy(bytes, 0);
      return bytes;
    },
    lend: (message) => lendData(tag, message),
    decode,
  };
}

export const blobChunk: Codec<Data> = dataCodec(0x0a, (bytes) => tvix.castore.v1.BlobChunk.decode(bytes));
export const readResponse: Codec<Data> = dataCodec(0x52, (bytes) =>
  google.bytestream.ReadResponse.decode(bytes),
);
