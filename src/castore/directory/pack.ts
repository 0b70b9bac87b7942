import { zstdCompress, zstdDecompressStream } from '../../util/compression/zstd.ts';
import { damaged } from '../../util/errors.ts';
import type { Directory } from '../directory.ts';

const LENGTH = 4;
/** As long as a directory may be in a message. */
const MAX_FRAME = 64 << 20;

/** A closure as tvix and snix pack it: each directory after its length (4 bytes, big-endian), in one zstd frame. */
export function encodePack(directories: readonly Directory[]): Uint8Array {
  return zstdCompress(Buffer.concat(directories.flatMap(framed)));
}

/** What is in that frame. */
export async function* packed(directories: AsyncIterable<Directory>): AsyncGenerator<Uint8Array> {
  for await (const directory of directories) yield* framed(directory);
}

function framed({ bytes }: Directory): Uint8Array[] {
  const length = Buffer.allocUnsafe(LENGTH);
  length.writeUInt32BE(bytes.length);
  return [length, bytes];
}

/** The encoded directories in a pack. Throws DATA_LOSS. */
export async function* decodePack(pack: Uint8Array): AsyncGenerator<Uint8Array> {
  const held: Uint8Array[] = [];
  let heldLength = 0;
  let wanted = LENGTH;
  let isLength = true;
  for await (const part of zstdDecompressStream([pack])) {
    held.push(part);
    heldLength += part.length;
    if (heldLength < wanted) continue;
    let bytes = Buffer.concat(held);
    for (; bytes.length >= wanted; isLength = !isLength) {
      const taken = bytes.subarray(0, wanted);
      bytes = bytes.subarray(wanted);
      if (isLength) wanted = taken.readUInt32BE();
      if (wanted > MAX_FRAME) throw damaged(`a pack has a directory of ${wanted} bytes`);
      if (isLength) continue;
      yield taken;
      wanted = LENGTH;
    }
    held.splice(0, held.length, bytes);
    heldLength = bytes.length;
  }
  if (heldLength > 0 || !isLength) throw damaged('a pack is cut short');
}
