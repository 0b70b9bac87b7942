import Long from 'long';

/** A 64-bit number of a message as a bigint; what is absent is 0. */
export function toBigInt(value: number | Long | null | undefined): bigint {
  if (value === null || value === undefined) return 0n;
  if (typeof value === 'number') return BigInt(value);
  return (BigInt(value.high >>> 0) << 32n) | BigInt(value.low >>> 0);
}

export function toLong(value: bigint): Long {
  return Long.fromBits(Number(value & 0xffffffffn), Number(value >> 32n), true);
}
