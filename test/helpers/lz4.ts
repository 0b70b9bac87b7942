/** Compresses by LZ4 into one frame of blocks that each refer to nothing before them, as `lz4 -BI -B4` does. */
export function lz4Compress(input: Uint8Array): Buffer {
  const parts: Buffer[] = [Buffer.from('04224d18604082', 'hex')];
  for (let at = 0; at < input.length; at += 1 << 16) {
    const plain = Buffer.from(input.subarray(at, at + (1 << 16)));
    const packed = compressBlock(plain);
    const isSmaller = packed.length < plain.length;
    const head = Buffer.alloc(4);
    head.writeUInt32LE(isSmaller ? packed.length : 2 ** 31 + plain.length);
    parts.push(head, isSmaller ? packed : plain);
  }
  return Buffer.concat([...parts, Buffer.alloc(4)]);
}

function compressBlock(input: Buffer): Buffer {
  const out: number[] = [];
  const seen = new Map<number, number>();
  const long = (length: number) => {
    for (length -= 15; length >= 255; length -= 255) out.push(255);
    if (length >= 0) out.push(length);
  };
  const literals = (from: number, to: number, match: number) => {
    out.push((Math.min(15, to - from) << 4) | Math.min(15, match));
    long(to - from);
    for (let i = from; i < to; i++) out.push(input[i]!);
  };
  let from = 0;
  for (let at = 0; at < input.length - 12; ) {
    const word = input.readUInt32LE(at);
    const before = seen.get(word);
    seen.set(word, at);
    if (before === undefined) {
      at++;
      continue;
    }
    let length = 4;
    while (at + length < input.length - 5 && input[before + length] === input[at + length]) length++;
    literals(from, at, length - 4);
    out.push((at - before) & 0xff, (at - before) >> 8);
    long(length - 4);
    at += length;
    from = at;
  }
  literals(from, input.length, 0);
  return Buffer.from(out);
}
