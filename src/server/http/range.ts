/** Bytes of a body, `end` excluded. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/**
 * Reads a Range header that asks for a single range of a body of this length. `undefined` for any other header, which
 * is to be ignored (RFC 9110, 14.2); `unsatisfiable` when the range lies outside.
 */
export function parseRange(header: string | undefined, length: number): Range | 'unsatisfiable' | undefined {
  const [, first, last] = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(header ?? '') ?? [];
  if (first === undefined || (first === '' && last === '')) return undefined;
  const start = first === '' ? Math.max(0, length - Number(last)) : Number(first);
  const end = first === '' || last === '' ? length : Math.min(length, Number(last) + 1);
  if (first !== '' && last !== '' && Number(last) < Number(first)) return undefined;
  return start < end ? { start, end } : 'unsatisfiable';
}
