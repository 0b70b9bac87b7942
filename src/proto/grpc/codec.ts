import { tvix } from '../messages.ts';

/** A message for grpc-js, which copies it behind a header of its own. */
export interface Encoded {
  readonly byteLength: number;
  copy(target: Uint8Array, at: number): void;
}

/** Writes and reads one kind of message. */
export interface Codec<T> {
  encode(message: T): Buffer;
  /** Encodes without a copy: the parts of the message must not change before it is sent. */
  lend?(message: T): Encoded;
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

const BLOB_DATA_TAG = 0x0a;
type BlobChunk = { data?: Uint8Array | null };

/** Written by hand: protobufjs goes over the bytes twice. */
function lendBlobChunk({ data }: BlobChunk): Encoded {
  if (!data?.length) return Buffer.alloc(0);
  const header = [BLOB_DATA_TAG];
  let length = data.length;
  for (; length > 0x7f; length >>>= 7) header.push((length & 0x7f) | 0x80);
  header.push(length);
  return {
    byteLength: header.length + data.length,
    copy(target, at) {
      target.set(header, at);
      target.set(data, at + header.length);
    },
  };
}

export const blobChunk: Codec<BlobChunk> = {
  encode: (message) => {
    const lent = lendBlobChunk(message);
    const bytes = Buffer.allocUnsafe(lent.byteLength);
    lent.copy(bytes, 0);
    return bytes;
  },
  lend: lendBlobChunk,
  decode: (bytes) => tvix.castore.v1.BlobChunk.decode(bytes),
};
